import { h } from "../dom.js";
import { setTitle, viewHeader } from "../shell.js";

export function render() {
  setTitle("workers");
  return h("div", viewHeader("workers"));
}
