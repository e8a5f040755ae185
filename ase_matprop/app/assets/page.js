// What the page does without asking the server.
(function () {
  "use strict";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", function () {
    window.dash_clientside.set_props("theme", { data: dark.matches ? "dark" : "light" });
  });

  // The table is made anew when it is sorted: the keyboard stays on the heading, or the name, where it was.
  let last = "";
  document.addEventListener("focusin", function (event) {
    last = event.target.closest("#table") ? event.target.id : "";
  });
  new MutationObserver(function () {
    if (!last || document.activeElement !== document.body) return;
    const again = document.getElementById(last);
    if (again) again.focus({ preventScroll: true });
  }).observe(document.documentElement, { childList: true, subtree: true });

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    matprop: {
      opened: function (token) {
        window.matprop.opened(token);
        return dark.matches ? "dark" : "light";
      },
      // One of the three parts of the page is shown.
      part: function (chosen) {
        return ["predict", "tune", "models"].map((name) => name !== chosen);
      },
      // What belongs to a row is below the table: go there as soon as it is there.
      show_detail: function (opened) {
        let times = 0;
        const timer = window.setInterval(function () {
          const heading = document.getElementById("detail-heading");
          times += 1;
          if (opened && heading && heading.dataset.number === String(opened.number)) {
            heading.focus({ preventScroll: true });
            heading.scrollIntoView({ block: "start" });
            window.clearInterval(timer);
          } else if (times > 100) {
            window.clearInterval(timer);
          }
        }, 100);
        return window.dash_clientside.no_update;
      },
      // The camera goes around the structure; angles in degrees.
      turn: function (left, right, up, down, near, far, figure, eye) {
        const clicked = window.dash_clientside.callback_context.triggered_id;
        const steps = {
          "turn-left": [-15, 0, 1], "turn-right": [15, 0, 1], "turn-up": [0, 15, 1], "turn-down": [0, -15, 1],
          "turn-near": [0, 0, 0.85], "turn-far": [0, 0, 1 / 0.85],
        };
        if (!steps[clicked] || !figure || !figure.layout || !figure.layout.scene) {
          return [window.dash_clientside.no_update, window.dash_clientside.no_update];
        }
        const plot = document.querySelector("#structure-figure .js-plotly-plot");
        const scene = plot && plot.layout && plot.layout.scene && plot.layout.scene.camera;
        const now = (scene || figure.layout.scene.camera).eye;
        const radius = Math.hypot(now.x, now.y, now.z);
        const [turn, tilt, factor] = steps[clicked];
        const around = Math.atan2(now.y, now.x) + (turn * Math.PI) / 180;
        const upper = Math.asin(now.z / radius) + (tilt * Math.PI) / 180;
        const height = Math.max(-1.5, Math.min(1.5, upper));
        const size = radius * factor;
        const next = {
          x: size * Math.cos(height) * Math.cos(around),
          y: size * Math.cos(height) * Math.sin(around),
          z: size * Math.sin(height),
        };
        const scaled = Object.assign({}, figure.layout.scene, {
          camera: Object.assign({}, figure.layout.scene.camera, { eye: next }),
        });
        const layout = Object.assign({}, figure.layout, { scene: scaled, uirevision: Date.now() });
        return [Object.assign({}, figure, { layout: layout }), (eye || 0) + 1];
      },
    },
  });
})();
