/** The frame around the views: navigation, connection, theme, and signing in. */

import { fill, h, icon } from "./dom.js";
import { errorBox, skeleton } from "./parts/basic.js";
import { connection } from "./live.js";
import { loadSession, may, session, sessionError, signOut } from "./session.js";
import { addShortcut } from "./shortcuts.js";
import { effect, scope, signal, untracked } from "./signals.js";
import { showShortcuts } from "./shortcut_sheet.js";
import { themeButton } from "./theme_choice.js";
import { linkTo, navigate, path } from "./url.js";
import { signInView } from "./views/sign_in.js";
import { findView, loadView } from "./views.js";

/** @type {readonly {section: string, to: string, label: string, icon: string, keys: string, scope?: string}[]} */
const SECTIONS = [
  { section: "jobs", to: "/jobs", label: "Jobs", icon: "jobs", keys: "g j" },
  { section: "compare", to: "/compare", label: "Compare", icon: "compare", keys: "g c" },
  { section: "datasets", to: "/datasets", label: "Datasets", icon: "dataset", keys: "g d" },
  { section: "adapters", to: "/adapters", label: "Adapters", icon: "adapter", keys: "g a" },
  { section: "models", to: "/models", label: "Base models", icon: "model", keys: "g m" },
  { section: "workers", to: "/workers", label: "Workers", icon: "worker", keys: "g w" },
  { section: "webhooks", to: "/webhooks", label: "Webhooks", icon: "webhook", keys: "g h" },
  { section: "keys", to: "/keys", label: "API keys", icon: "key", keys: "g k", scope: "admin" },
];

const heading = signal("");
const section = signal("");
const isMenuOpen = signal(false);

/**
 * Name the present view in the tab and for screen readers.
 * @param {string} title
 */
export function setTitle(title) {
  heading.value = title;
  document.title = title ? `${title} · Tunewright` : "Tunewright";
}

/**
 * Show the header of a view: its title, what belongs to it, and its actions.
 * @param {import("./dom.js").Child} title
 * @param {{actions?: import("./dom.js").Child, below?: import("./dom.js").Child, back?: {to: string, label: string}}} [parts]
 * @returns {HTMLElement}
 */
export function viewHeader(title, { actions, below, back } = {}) {
  return h(
    "header.view-header",
    back && h("a.back", { href: linkTo(back.to) }, icon("left"), back.label),
    h("div.view-title", h("h1", { tabindex: -1, id: "view-heading" }, title), actions && h("div.actions", actions)),
    below && h("div.view-below", below),
  );
}

/**
 * Show the page inside an element.
 * @param {HTMLElement} root
 */
export function showShell(root) {
  effect(() => {
    const isSignedIn = session.value;
    // A signed-in page stays as it is while the server cannot be reached.
    const problem = isSignedIn === undefined ? sessionError.value : null;
    untracked(() => {
      if (isSignedIn) fill(root, shell());
      else if (isSignedIn === null) fill(root, signInView());
      else if (problem) fill(root, h("main.alone", errorBox(problem, loadSession)));
      else fill(root, h("main.alone", skeleton(4)));
    });
  });
  document.body.append(h("div.messages", { id: "messages", role: "status", "aria-live": "polite" }));
}

function shell() {
  for (const each of SECTIONS) {
    const run = () => navigate(linkTo(each.to));
    addShortcut({ keys: each.keys, description: `Go to ${each.label}`, group: "Go to", run });
  }
  addShortcut({ keys: "n", description: "New job", group: "Go to", run: () => navigate(linkTo("/new")) });
  addShortcut({ keys: "?", description: "Show this list", group: "Everywhere", run: showShortcuts });
  const main = /** @type {HTMLElement} */ (h("main", { id: "main", tabindex: -1 }));
  showViews(main);
  return h(
    "div.shell",
    h("a.skip", { href: "#main" }, "Skip to content"),
    sidebar(),
    h("div.content", connectionBanner(), main),
  );
}

function sidebar() {
  return h(
    "header.sidebar",
    { class: () => (isMenuOpen.value ? "open" : "") },
    h(
      "div.brand-row",
      h("a.brand", { href: linkTo("/jobs") }, h("span.brand-mark", icon("logo")), "Tunewright"),
      h(
        "button.ghost.icon-only.menu-button",
        {
          type: "button",
          "aria-expanded": () => String(isMenuOpen.value),
          "aria-controls": "navigation",
          "aria-label": "Menu",
          onclick: () => (isMenuOpen.value = !isMenuOpen.value),
        },
        () => icon(isMenuOpen.value ? "cross" : "menu"),
      ),
    ),
    h(
      "div.sidebar-body",
      { id: "navigation" },
      h("a.button.primary.new-job", { href: linkTo("/new"), title: "New job (n)" }, icon("plus"), "New job"),
      h("nav", { "aria-label": "Sections" }, h("ul", SECTIONS.map((each) => () => sectionLink(each)))),
      account(),
    ),
  );
}

/** @param {typeof SECTIONS[number]} each */
function sectionLink(each) {
  if (each.scope && !may(each.scope)) return null;
  return h(
    "li",
    h(
      "a.section",
      { href: linkTo(each.to), "aria-current": () => (section.value === each.section ? "page" : null) },
      icon(each.icon),
      each.label,
    ),
  );
}

function account() {
  const present = session.peek();
  return h(
    "div.account",
    h(
      "div.account-name",
      { title: `API key ${present?.key_name} of project ${present?.project}` },
      icon("user"),
      h("span", h("strong", present?.project), h("span.faint", present?.key_name)),
    ),
    h(
      "div.account-actions",
      themeButton(),
      h(
        "button.ghost.icon-only",
        { type: "button", "aria-label": "Keyboard shortcuts", title: "Keyboard shortcuts (?)", onclick: showShortcuts },
        icon("keyboard"),
      ),
      h("a.button.ghost.icon-only", {
        href: "/docs",
        target: "_blank",
        rel: "noopener",
        "aria-label": "API reference",
        title: "API reference",
      }, icon("book")),
      h(
        "button.ghost.icon-only",
        { type: "button", "aria-label": "Sign out", title: "Sign out", onclick: signOut },
        icon("signout"),
      ),
    ),
  );
}

/** Say that the connection is lost, unless it is back within two seconds. */
function connectionBanner() {
  const isLost = signal(false);
  effect(() => {
    isLost.value = false;
    if (connection.value !== "reconnecting") return;
    const timer = setTimeout(() => (isLost.value = true), 2000);
    return () => clearTimeout(timer);
  });
  const banner = () => h("p.banner.tone-warn", icon("warning"), "The connection to the server was lost. Reconnecting…");
  return h("div.connection", { role: "status" }, () => isLost.value && banner());
}

/** @param {HTMLElement} main */
function showViews(main) {
  /** @type {() => void} */
  let endView = () => {};
  let number = 0;
  effect(() => {
    const found = findView(path.value);
    const own = ++number;
    untracked(async () => {
      isMenuOpen.value = false;
      if (!found) {
        endView();
        section.value = "";
        setTitle("Not found");
        fill(
          main,
          h(
            "div.empty",
            icon("search", "icon-lg"),
            h("h1", "There is no such page"),
            h("p", h("a", { href: linkTo("/jobs") }, "Show the jobs")),
          ),
        );
        return;
      }
      try {
        const view = await loadView(found.route);
        if (own !== number) return;
        endView();
        section.value = found.route.section;
        const made = scope(() => view.render(found.params));
        endView = made.end;
        fill(main, made.value);
      } catch (error) {
        if (own !== number) return;
        endView();
        fill(
          main,
          errorBox(
            error instanceof TypeError ? "The server has another version now. Load this page again." : error,
            () => location.reload(),
          ),
        );
      }
      const isFirst = own === 1;
      if (!isFirst) document.getElementById("view-heading")?.focus({ preventScroll: true });
      scrollTo(0, history.state?.scroll ?? 0);
    });
  });
}
