// The widget bundle asks require.js for its own address to find its icon fonts. `data-base` (see _config.yml) is the
// folder of the bundle: an address of the CDN, or, in the offline book, a path below _static.
(function () {
  const base = document.currentScript.dataset.base.replace(/\/$/, "");
  const local = (document.documentElement.dataset.content_root || "./") + "_static/";
  const folder = /^https?:/.test(base) ? base : local + base;
  requirejs.config({paths: {"@jupyter-widgets": folder, "@jupyter-widgets/html-manager/dist": folder}});
})();
