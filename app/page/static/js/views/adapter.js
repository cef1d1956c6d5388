import { h } from "../dom.js";
import { setTitle, viewHeader } from "../shell.js";

export function render() {
  setTitle("adapter");
  return h("div", viewHeader("adapter"));
}
