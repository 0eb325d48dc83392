// The theme ships Font Awesome as a script that replaces every <i> icon by an <svg>. ipywidgets' Play control keeps a
// reference to its <i>; once that is replaced it throws and takes every other link on the page with it. "nest" puts
// the drawing inside the <i> instead. This file must run before the theme's script.
window.FontAwesomeConfig = Object.assign(window.FontAwesomeConfig || {}, {autoReplaceSvg: "nest"});
