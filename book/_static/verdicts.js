// Colours the verdicts that the scoreboard takes from the chapters as plain text. Without this script they are bold text.
document.addEventListener("DOMContentLoaded", () => {
  for (const verdict of document.querySelectorAll(".verdict")) {
    const words = verdict.textContent.trim().replace(/\s+/g, "-");
    verdict.classList.add("badge", "verdict-" + words);
  }
});
