import { h } from "../dom.js";
import { setTitle, viewHeader } from "../shell.js";

export function render() {
  setTitle("webhook");
  return h("div", viewHeader("webhook"));
}
