import { h } from "../dom.js";
import { setTitle, viewHeader } from "../shell.js";

export function render() {
  setTitle("webhooks");
  return h("div", viewHeader("webhooks"));
}
