// Runs before the first paint, so that a chosen theme does not flash. A classic script: modules run too late.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("tunewright.theme");
  } catch {
    // Storage can be switched off; the system's theme applies.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
