// Names for the parts of widgets that ipywidgets leaves nameless to a screen reader: slider handles and Play buttons.
(function () {
  function label(root) {
    for (const handle of root.querySelectorAll(".noUi-handle:not([aria-label])")) {
      const box = handle.closest(".jupyter-widgets, .widget-inline-hbox");
      const text = box && box.querySelector(".widget-label");
      handle.setAttribute("aria-label", (text && text.textContent.trim()) || "value");
    }
    for (const button of root.querySelectorAll(".widget-play button:not([aria-label])")) {
      const icon = button.querySelector("i, svg");
      const kind = icon ? icon.getAttribute("class") || "" : "";
      const name = ["pause", "play", "stop", "repeat", "retweet"].find((word) => kind.includes(word));
      button.setAttribute("aria-label", button.title || (name === "retweet" ? "repeat" : name) || "play");
    }
  }
  function start() {
    label(document);
    new MutationObserver(() => label(document)).observe(document.body, {childList: true, subtree: true});
  }
  if (document.body) start(); else document.addEventListener("DOMContentLoaded", start);
})();
