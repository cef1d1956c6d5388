import { h } from "../dom.js";
import { setTitle, viewHeader } from "../shell.js";

export function render() {
  setTitle("compare");
  return h("div", viewHeader("compare"));
}
