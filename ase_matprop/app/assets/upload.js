// Files from the browser to the session: chosen or dropped, one request each, the bytes as they are.
(function () {
  "use strict";
  const state = { token: null, busy: false };
  const MOST_FILES = 2000;

  window.matprop = {
    opened: function (token) {
      state.token = token;
    },
  };

  function words(bytes) {
    return bytes >= 1e6 ? (bytes / 1e6).toPrecision(3) + " MB" : Math.ceil(bytes / 1000) + " kB";
  }

  // A dropped folder is read with all that is below it; the names of files keep their folders.
  async function filesOfEntry(entry, path, found) {
    if (found.length > MOST_FILES) return;
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push({ file: file, name: path + file.name });
    } else if (entry.isDirectory) {
      const reader = entry.createReader();
      for (;;) {
        const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!part.length) break;
        for (const child of part) await filesOfEntry(child, path + entry.name + "/", found);
      }
    }
  }

  async function filesOfDrop(transfer) {
    const entries = Array.from(transfer.items || [])
      .map((item) => (item.webkitGetAsEntry ? item.webkitGetAsEntry() : null))
      .filter(Boolean);
    if (!entries.length) return Array.from(transfer.files).map((file) => ({ file: file, name: file.name }));
    const found = [];
    for (const entry of entries) await filesOfEntry(entry, "", found);
    return found;
  }

  async function send(area, files) {
    const status = area.querySelector("[role=status]");
    const purpose = area.dataset.purpose;
    const most = Number(area.dataset.most);
    if (!files.length) return;
    if (state.busy || !state.token) {
      status.textContent = "Not ready: wait until the other files are there, or reload the page.";
      return;
    }
    state.busy = true;
    area.setAttribute("aria-busy", "true");
    const refused = [];
    let added = 0;
    let failed = 0;
    if (files.length > MOST_FILES) {
      refused.push("only the first " + MOST_FILES + " of " + files.length + " files were sent; use a zip file");
      files = files.slice(0, MOST_FILES);
    }
    for (let number = 0; number < files.length; number += 1) {
      const { file, name } = files[number];
      if (number % 25 === 0) status.textContent = "Sending file " + (number + 1) + " of " + files.length + " …";
      if (file.size > most) {
        refused.push(name + " has " + words(file.size) + ", and the page takes " + words(most) + " at a time");
        continue;
      }
      try {
        const answer = await fetch("/upload?purpose=" + purpose, {
          method: "POST",
          headers: {
            "Content-Type": "application/octet-stream",
            "X-Session": state.token,
            "X-File-Name": encodeURIComponent(name),
          },
          body: file,
        });
        const result = await answer.json();
        added += result.added || 0;
        failed += result.failed || 0;
        if (!answer.ok || (purpose !== "structures" && result.text)) refused.push(result.text);
      } catch (error) {
        refused.push(name + " could not be sent; is matprop app still running?");
      }
    }
    state.busy = false;
    area.removeAttribute("aria-busy");
    status.textContent = "";
    window.dash_clientside.set_props("uploaded", {
      data: { purpose: purpose, added: added, failed: failed, refused: refused.slice(0, 20), stamp: Date.now() },
    });
  }

  function furnish(area) {
    const id = area.id + "-input";
    const label = document.createElement("label");
    label.htmlFor = id;
    label.className = "drop-label";
    const strong = document.createElement("strong");
    strong.textContent = area.dataset.title;
    const rest = document.createElement("span");
    rest.textContent = area.dataset.text;
    label.append(strong, rest);
    const input = document.createElement("input");
    input.type = "file";
    input.multiple = true;
    input.id = id;
    input.addEventListener("change", function () {
      const files = Array.from(input.files).map((file) => ({ file: file, name: file.name }));
      send(area, files).then(() => (input.value = ""));
    });
    const status = document.createElement("div");
    status.setAttribute("role", "status");
    status.className = "drop-status";
    area.append(input, label, status);
    area.addEventListener("dragover", function (event) {
      event.preventDefault();
      area.classList.add("over");
    });
    area.addEventListener("dragleave", () => area.classList.remove("over"));
    area.addEventListener("drop", function (event) {
      event.preventDefault();
      area.classList.remove("over");
      filesOfDrop(event.dataTransfer).then((files) => send(area, files));
    });
  }

  new MutationObserver(function () {
    document.querySelectorAll(".drop:not([data-ready])").forEach(function (area) {
      area.dataset.ready = "yes";
      furnish(area);
    });
  }).observe(document.documentElement, { childList: true, subtree: true });

  // A file that misses its place must not replace the page.
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => event.preventDefault());

  // The data live as long as the tab.
  window.addEventListener("pagehide", function () {
    if (state.token) navigator.sendBeacon("/close", state.token);
  });
  window.addEventListener("pageshow", function (event) {
    if (event.persisted) window.location.reload();
  });
  window.setInterval(function () {
    if (!state.token) return;
    fetch("/alive", { method: "POST", headers: { "X-Session": state.token } })
      .then(function (answer) {
        if (answer.status !== 410) return;
        const text = "This session is over and its data are deleted; reload the page to begin another one.";
        window.dash_clientside.set_props("session-error", { children: text });
      })
      .catch(() => {});
  }, 60000);
})();
