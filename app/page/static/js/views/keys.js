import { h } from "../dom.js";
import { setTitle, viewHeader } from "../shell.js";

export function render() {
  setTitle("keys");
  return h("div", viewHeader("keys"));
}
