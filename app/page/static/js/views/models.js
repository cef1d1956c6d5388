import { h } from "../dom.js";
import { setTitle, viewHeader } from "../shell.js";

export function render() {
  setTitle("models");
  return h("div", viewHeader("models"));
}
