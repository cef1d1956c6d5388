/** Creates elements from plain calls: text is always text, never markup. */

import { computed, effect, onEnd, scope, signal, untracked } from "./signals.js";

/**
 * @typedef {string | number | Node | null | undefined | false} Plain
 * @typedef {Plain | (() => any) | readonly any[]} Child
 * @typedef {Record<string, any>} Attributes
 */

const ICONS = new URL("../icons.svg", import.meta.url).pathname;
const SVG = "http://www.w3.org/2000/svg";

/**
 * Create an element: `h("button.primary", {type: "button", onclick: save, disabled: () => busy.value}, "Save")`. A
 * function as an attribute's value or as a child is an effect: it runs again when a signal that it read has changed.
 * `on…` adds a listener, `.name` sets a property, `style` takes an object, and true, false and null set or remove an
 * attribute.
 * @param {string} tag  the element's name, followed by `.class`es
 * @param {Attributes | Child} [attributes]
 * @param {...Child} children
 * @returns {any} the element; its type is that of the tag
 */
export function h(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(/** @type {string} */ (name));
  if (classes.length) element.className = classes.join(" ");
  if (isAttributes(attributes)) setAttributes(element, attributes);
  else if (attributes !== undefined) append(element, [attributes]);
  append(element, children);
  return element;
}

/**
 * Create an icon of icons.svg. It is hidden from assistive technology: the element around it needs a name.
 * @param {string} name
 * @param {string} [className]
 * @returns {SVGElement}
 */
export function icon(name, className = "") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", `icon ${className}`.trim());
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `${ICONS}#${name}`);
  svg.append(use);
  return svg;
}

/**
 * Show a list by keys. A row stays in the page while its key is in the list: its signal changes, and its focus,
 * selection and scroll position stay.
 * @template T
 * @param {() => readonly T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: import("./signals.js").Signal<T>, key: string) => Node} render
 * @returns {Node} a fragment to append
 */
export function each(items, keyOf, render) {
  const end = document.createComment("");
  const fragment = document.createDocumentFragment();
  fragment.append(end);
  /** @type {Map<string, {item: import("./signals.js").Signal<T>, node: Node, end: () => void}>} */
  const rows = new Map();
  effect(() => {
    const wanted = items();
    const keys = new Set(wanted.map(keyOf));
    for (const [key, row] of rows) {
      if (keys.has(key)) continue;
      row.end();
      row.node.parentNode?.removeChild(row.node);
      rows.delete(key);
    }
    let next = /** @type {Node} */ (end);
    for (const item of [...wanted].reverse()) {
      const key = keyOf(item);
      let row = rows.get(key);
      if (row) row.item.value = item;
      else {
        const itsItem = signal(item);
        const made = scope(() => render(itsItem, key));
        row = { item: itsItem, node: made.value, end: made.end };
        rows.set(key, row);
      }
      if (row.node.nextSibling !== next || !row.node.parentNode) move(row.node, next);
      next = row.node;
    }
  });
  onEnd(() => {
    for (const row of rows.values()) row.end();
  });
  return fragment;
}

/**
 * Show something while a condition holds. It is created again only when the condition changes, so that focus stays.
 * @param {() => unknown} condition
 * @param {() => Child} render
 * @returns {() => Child} a child for `h`
 */
export function when(condition, render) {
  const isShown = computed(() => Boolean(condition()));
  return () => isShown.value && untracked(render);
}

/**
 * Replace an element's content.
 * @param {Element} element
 * @param {...Child} children
 */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/**
 * @param {Node} node
 * @param {Node} next
 */
function move(node, next) {
  const parent = /** @type {any} */ (next.parentNode);
  // moveBefore keeps the focus and the scroll position of a node that is already in the page.
  if (node.isConnected && parent.isConnected && parent.moveBefore) parent.moveBefore(node, next);
  else parent.insertBefore(node, next);
}

/**
 * @param {unknown} value
 * @returns {value is Attributes}
 */
function isAttributes(value) {
  return typeof value === "object" && value !== null && !(value instanceof Node) && !Array.isArray(value);
}

/**
 * @param {HTMLElement} element
 * @param {Attributes} attributes
 */
function setAttributes(element, attributes) {
  const own = element.className;
  for (const [name, value] of Object.entries(attributes)) {
    /** @param {any} present */
    const set = (present) => {
      if (name === "class") element.className = [own, present].filter(Boolean).join(" ");
      else setAttribute(element, name, present);
    };
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (typeof value === "function") effect(() => set(value()));
    else set(value);
  }
}

/**
 * @param {any} element
 * @param {string} name
 * @param {any} value
 */
function setAttribute(element, name, value) {
  if (name === "style") {
    for (const [property, text] of Object.entries(value ?? {})) element.style.setProperty(property, String(text));
  } else if (name.startsWith(".")) {
    if (element[name.slice(1)] !== value) element[name.slice(1)] = value;
  } else if (value === false || value === null || value === undefined) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? "" : String(value));
}

/**
 * @param {Node} parent
 * @param {readonly Child[]} children
 */
function append(parent, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(parent, child);
    else if (typeof child === "function") appendReactive(parent, child);
    else parent.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/**
 * Append what a function returns, and replace it when it changes. A text is changed in place.
 * @param {Node} parent
 * @param {() => Child} child
 */
function appendReactive(parent, child) {
  const [start, end] = [document.createComment(""), document.createComment("")];
  parent.appendChild(start);
  parent.appendChild(end);
  effect(() => {
    const value = child();
    const only = start.nextSibling;
    const isText = typeof value === "string" || typeof value === "number";
    if (isText && only instanceof Text && only.nextSibling === end) {
      if (only.data !== String(value)) only.data = String(value);
      return;
    }
    while (start.nextSibling && start.nextSibling !== end) start.parentNode?.removeChild(start.nextSibling);
    const fragment = document.createDocumentFragment();
    append(fragment, [value]);
    end.parentNode?.insertBefore(fragment, end);
  });
}
