/** A menu beside a button: arrow keys move, Escape and a click elsewhere close it, and the focus goes back. */

import { h, icon } from "../../dom.js";

/**
 * @typedef {{label: string, icon: string, run?: () => void, href?: string, isDangerous?: boolean}} MenuItem
 */

/** A menu stays while the page moves less than this; further, it would stand beside another row. */
const SLACK = 24;

/**
 * @param {HTMLElement} anchor
 * @param {string} label
 * @param {readonly (MenuItem | null)[]} items  null: a line between groups
 */
export function openMenu(anchor, label, items) {
  const menu = /** @type {HTMLElement} */ (h("div.menu", { role: "menu", popover: "auto", "aria-label": label }));
  const close = () => menu.hidePopover();
  for (const item of items) {
    menu.append(item ? menuItem(item, close) : h("hr", { role: "separator" }));
  }
  menu.addEventListener("keydown", (event) => moveFocus(menu, event));
  menu.addEventListener("toggle", (event) => {
    if (/** @type {ToggleEvent} */ (event).newState !== "closed") return;
    anchor.setAttribute("aria-expanded", "false");
    const hadFocus = menu.contains(document.activeElement) || document.activeElement === document.body;
    menu.remove();
    if (hadFocus) anchor.focus();
  });
  (anchor.closest("main") ?? document.body).append(menu);
  menu.showPopover();
  anchor.setAttribute("aria-expanded", "true");
  place(menu, anchor);
  /** @type {HTMLElement | null} */ (menu.querySelector("[role=menuitem]"))?.focus();
  const openedAt = scrollY;
  const followScroll = () => {
    if (Math.abs(scrollY - openedAt) > SLACK) close();
  };
  addEventListener("scroll", followScroll, { passive: true });
  menu.addEventListener("beforetoggle", () => removeEventListener("scroll", followScroll));
}

/**
 * @param {MenuItem} item
 * @param {() => void} close
 */
function menuItem(item, close) {
  const content = [icon(item.icon), item.label];
  if (item.href) return h("a.menu-item", { role: "menuitem", tabindex: -1, href: item.href, onclick: close }, content);
  const run = () => {
    close();
    item.run?.();
  };
  const attributes = { type: "button", role: "menuitem", tabindex: -1, onclick: run };
  return h(item.isDangerous ? "button.menu-item.danger-quiet" : "button.menu-item", attributes, content);
}

/**
 * @param {HTMLElement} menu
 * @param {KeyboardEvent} event
 */
function moveFocus(menu, event) {
  const items = /** @type {HTMLElement[]} */ ([...menu.querySelectorAll("[role=menuitem]")]);
  const place = items.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  const steps = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: -1 };
  if (event.key === "Tab") {
    event.preventDefault();
    menu.hidePopover();
  } else if (event.key in steps) {
    event.preventDefault();
    items.at(steps[/** @type {keyof typeof steps} */ (event.key)] % items.length)?.focus();
  }
  event.stopPropagation();
}

/**
 * @param {HTMLElement} menu
 * @param {HTMLElement} anchor
 */
function place(menu, anchor) {
  const [box, size] = [anchor.getBoundingClientRect(), menu.getBoundingClientRect()];
  const isBelow = box.bottom + size.height + 8 <= innerHeight || box.top < size.height + 8;
  menu.style.top = `${isBelow ? box.bottom + 4 : box.top - size.height - 4}px`;
  menu.style.left = `${Math.max(8, Math.min(box.right - size.width, innerWidth - size.width - 8))}px`;
}
