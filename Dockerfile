# docker build -t matprop .
# docker run --rm -v "$PWD:/data" matprop predict POSCAR
#
# The models are in the image: nothing is downloaded when it runs (docker run --network none works).
# Files that it writes belong to the user of the image, 1000; with --user "$(id -u)" to you.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
# torch without its gigabytes for GPUs, from PyTorch's own index; all else from PyPI in the tested versions
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# extras of the package, such as screening,parquet
ARG EXTRAS=
WORKDIR /source
COPY constraints.txt ./
RUN python -m venv /opt/matprop \
    && /opt/matprop/bin/pip install --no-cache-dir --no-deps --index-url "${TORCH_INDEX}" "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY ase_matprop ./ase_matprop
RUN /opt/matprop/bin/pip install --no-cache-dir -c constraints.txt ".${EXTRAS:+[${EXTRAS}]}"

FROM python:${PYTHON}-slim
ENV PATH=/opt/matprop/bin:${PATH} \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=build /opt/matprop /opt/matprop
RUN useradd --create-home --uid 1000 matprop && install --directory --owner=matprop /data
USER 1000
WORKDIR /data
# an image whose models are damaged, or whose libraries cannot be loaded, is not made
RUN matprop models verify && matprop predict MgO --model elemnet-mp
ENTRYPOINT ["matprop"]
CMD ["--help"]
