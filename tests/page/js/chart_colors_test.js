import { assert, assertEquals } from "./assert.js";
import {
  DARK_COLORS,
  DASHES,
  LIGHT_COLORS,
  pickStyle,
  SERIES_COUNT,
} from "../../../app/page/static/js/chart/colors.js";

/** @param {string} hex */
function findLuminance(hex) {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const part = parseInt(hex.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/**
 * @param {string} one
 * @param {string} two
 */
function findContrast(one, two) {
  const [dark, light] = [findLuminance(one), findLuminance(two)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

for (
  const [theme, colors, backgrounds] of /** @type {[string, readonly string[], string[]][]} */ ([
    ["light", LIGHT_COLORS, ["#ffffff", "#f7f7f8"]],
    ["dark", DARK_COLORS, ["#0f1012", "#17181b"]],
  ])
) {
  Deno.test(`each ${theme} colour has a contrast of 3:1 with its backgrounds`, () => {
    assertEquals(new Set(colors).size, SERIES_COUNT);
    for (const color of colors) {
      for (const background of backgrounds) {
        const contrast = findContrast(color, background);
        assert(contrast >= 3, `${color} on ${background}: ${contrast}`);
      }
    }
  });
}

Deno.test("the style sheet has the same colours", async () => {
  const css = await Deno.readTextFile(new URL("../../../app/page/static/css/chart.css", import.meta.url));
  LIGHT_COLORS.forEach((light, i) => {
    assert(css.includes(`--series-${i}: light-dark(${light}, ${DARK_COLORS[i]});`), `--series-${i}`);
  });
});

Deno.test("no two dash patterns are alike", () => {
  assertEquals(new Set(DASHES.map(({ pattern }) => pattern.join())).size, SERIES_COUNT);
});

Deno.test("64 series differ in colour or dash", () => {
  const styles = Array.from({ length: 64 }, (_, i) => Object.values(pickStyle(i)).join());
  assertEquals(new Set(styles).size, 64);
});
