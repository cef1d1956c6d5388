import { h } from "../dom.js";
import { setTitle, viewHeader } from "../shell.js";

export function render() {
  setTitle("create");
  return h("div", viewHeader("create"));
}
