/** The colour scheme: the system's, or the one chosen on this device. */

import { h, icon } from "./dom.js";
import { signal } from "./signals.js";

/** @typedef {"auto" | "light" | "dark"} Theme */

const KEY = "tunewright.theme";
/** @type {Record<Theme, {icon: string, label: string, next: Theme}>} */
const THEMES = {
  auto: { icon: "auto", label: "Theme: system", next: "light" },
  light: { icon: "sun", label: "Theme: light", next: "dark" },
  dark: { icon: "moon", label: "Theme: dark", next: "auto" },
};

const theme = signal(/** @type {Theme} */ (document.documentElement.dataset.theme ?? "auto"));

/** @param {Theme} chosen */
function choose(chosen) {
  theme.value = chosen;
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  try {
    localStorage.setItem(KEY, chosen);
  } catch {
    // Storage can be switched off; the choice then lasts until the page is loaded again.
  }
}

export function themeButton() {
  const label = () => THEMES[theme.value].label;
  return h(
    "button.ghost.icon-only",
    { type: "button", "aria-label": label, title: label, onclick: () => choose(THEMES[theme.peek()].next) },
    () => icon(THEMES[theme.value].icon),
  );
}
