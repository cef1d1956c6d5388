import { assert, assertClose, assertEquals } from "./assert.js";
import { snapToPoint, stepFrom } from "../../../app/page/static/js/chart/crosshair.js";
import { Series } from "../../../app/page/static/js/chart/series.js";
import { clampZoom, computeView, panBy, zoomAround } from "../../../app/page/static/js/chart/view.js";
import { ZoomState } from "../../../app/page/static/js/chart/zoom.js";

/**
 * @param {number} length
 * @param {(i: number) => number} read
 */
function makeSeries(length, read) {
  const x = Float64Array.from({ length }, (_, i) => i);
  return new Series({ id: "loss", label: "loss", color: 0, dash: 0, x, y: x.map(read) });
}

/**
 * @param {Series[]} series
 * @param {object} [options]
 */
function makeView(series, options = {}) {
  return computeView({
    series,
    all: series,
    zoom: null,
    full: null,
    xScale: "linear",
    yScale: "linear",
    xKind: "step",
    hidesOutliers: false,
    unit: "",
    width: 600,
    height: 220,
    measure: (text) => text.length * 6,
    ...options,
  });
}

Deno.test("a view spans all points and labels both axes", () => {
  const view = makeView([makeSeries(1001, (i) => 1 + i / 1000)]);
  assertEquals([view.x.min, view.x.max, view.full], [0, 1000, { min: 0, max: 1000 }]);
  assert(view.y.min < 1 && view.y.max > 2 && view.hasValues);
  assertEquals(view.xLabels[0].label, "0");
  assertEquals(view.xLabels.at(-1)?.label, "1k");
  assert(view.yLabels.length >= 3);
});

Deno.test("y fits what the zoom shows", () => {
  const view = makeView([makeSeries(101, (i) => i)], { zoom: { from: 40, to: 50 } });
  assertEquals([view.x.min, view.x.max], [40, 50]);
  assert(view.y.min > 38 && view.y.max < 52);
});

Deno.test("outliers can be left out of the y range", () => {
  const series = makeSeries(1000, (i) => i === 500 ? 1e6 : 1 + (i % 10) / 10);
  assert(makeView([series]).y.max > 1e6);
  assert(makeView([series], { hidesOutliers: true }).y.max < 3);
});

Deno.test("a logarithmic view leaves out zero and below", () => {
  const view = makeView([makeSeries(100, (i) => i - 10)], { yScale: "log" });
  assert(view.y.min > 0 && view.y.min < 1 && view.floor === 0);
});

Deno.test("a view without values is empty, but drawn", () => {
  const view = makeView([makeSeries(0, () => 0)]);
  assert(!view.hasValues && view.x.max > view.x.min && view.y.max > view.y.min);
  assert(!makeView([makeSeries(3, () => NaN)]).hasValues);
});

Deno.test("no label of the x axis touches the next", () => {
  for (const width of [320, 390, 600, 1280]) {
    const { xLabels } = makeView([makeSeries(123_457, () => 1)], { width, zoom: { from: 12_345, to: 12_399 } });
    xLabels.slice(1).forEach(({ px, label }, i) => assert(px - xLabels[i].px >= label.length * 6 + 10));
  }
});

Deno.test("a zoom is held within the range, and all of it is no zoom", () => {
  const full = { min: 0, max: 100 };
  assertEquals(clampZoom({ from: -20, to: 30 }, full), { from: 0, to: 30 });
  assertEquals(clampZoom({ from: -20, to: 130 }, full), null);
});

Deno.test("zooming keeps the value under the pointer in place", () => {
  const series = [makeSeries(1001, () => 1)];
  const view = makeView(series);
  const px = view.x.px(300);
  const zoom = zoomAround(view, 0.5, px);
  assertClose(makeView(series, { zoom }).x.px(300), px, 1e-6);
  assertEquals(zoomAround(view, 2, px), null);
});

Deno.test("panning stops at the ends", () => {
  const series = [makeSeries(1001, () => 1)];
  const view = makeView(series, { zoom: { from: 400, to: 600 } });
  const wide = panBy(view, 1e6);
  assertClose(wide?.from ?? NaN, 0);
  assertClose(wide?.to ?? NaN, 200);
  const pixel = 200 / (view.x.to - view.x.from);
  assertClose(panBy(view, -10)?.from ?? NaN, 400 + 10 * pixel, 1e-6);
});

Deno.test("zooming out goes back step by step", () => {
  const zoom = new ZoomState();
  assert(zoom.goTo({ from: 0, to: 50 }) && zoom.goTo({ from: 10, to: 20 }));
  assert(!zoom.goTo({ from: 10, to: 20 }), "the same range is no step");
  assert(zoom.goBack());
  assertEquals(zoom.current, { from: 0, to: 50 });
  assert(zoom.goBack() && !zoom.goBack());
  assertEquals(zoom.current, null);
});

Deno.test("a pan is one step, however many moves it has", () => {
  const zoom = new ZoomState();
  zoom.set({ from: 0, to: 10 });
  zoom.begin();
  zoom.current = { from: 1, to: 11 };
  zoom.current = { from: 2, to: 12 };
  assert(zoom.settle());
  zoom.goBack();
  assertEquals(zoom.current, { from: 0, to: 10 });
});

Deno.test("another chart's zoom brings its steps", () => {
  const [one, two] = [new ZoomState(), new ZoomState()];
  one.goTo({ from: 0, to: 50 });
  one.goTo({ from: 10, to: 20 });
  two.adopt(one);
  two.goBack();
  assertEquals(two.current, { from: 0, to: 50 });
  assertEquals(one.current, { from: 10, to: 20 });
});

Deno.test("the crosshair goes from point to point and stays in view", () => {
  const series = [makeSeries(101, () => 1)];
  const view = makeView(series, { zoom: { from: 20.5, to: 60.5 } });
  assertEquals(snapToPoint(view, series, view.x.px(33.4)), 33);
  assertEquals(snapToPoint(view, series, -500), 21);
  assertEquals(snapToPoint(view, series, 5000), 60);
  assertEquals([stepFrom(view, series, 33, 1), stepFrom(view, series, 33, -10), stepFrom(view, series, 55, 10)], [
    34,
    23,
    60,
  ]);
  assertEquals(snapToPoint(view, [], 100), null);
});
