// What ipywidgets leaves unsaid to a screen reader: names of slider handles and Play buttons, which button is pressed.
// And what pages say wrongly: folded cells have one name, which is not what can be read on them, and the empty corner of a
// table is called a header.
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
    for (const button of root.querySelectorAll(".widget-toggle-buttons button, button.widget-toggle-button")) {
      const pressed = String(button.classList.contains("mod-active"));
      if (button.getAttribute("aria-pressed") !== pressed) button.setAttribute("aria-pressed", pressed);
    }
  }
  function start() {
    label(document);
    for (const fold of document.querySelectorAll("details.hide > summary")) fold.removeAttribute("aria-label");
    for (const head of document.querySelectorAll("th")) {
      if (!head.textContent.trim()) head.replaceWith(document.createElement("td"));
    }
    const watched = {childList: true, subtree: true, attributes: true, attributeFilter: ["class"]};
    new MutationObserver(() => label(document)).observe(document.body, watched);
  }
  if (document.body) start(); else document.addEventListener("DOMContentLoaded", start);
})();
