// Charts in the page: each in its place, drawn again when the theme, the width, a choice or the run changes.

import { echarts } from "libraries";
import { choice, element, select } from "./dom.js";
import { count, plural } from "./format.js";
import * as options from "./options.js";

/** One chart below its controls, with a sentence under it. `make` gives the options, or null where there is nothing to draw. */
class Chart {
  constructor(place, { make, height, empty, caption, controls = [], renderer = "svg" }) {
    Object.assign(this, { place, make, height, empty, caption, renderer });
    this.controls = element("div", { class: "controls" }, ...controls);
    this.canvas = element("div", { class: "plot" });
    this.said = element("p", { class: "hint" });
    place.replaceChildren(...(controls.length ? [this.controls] : []), this.canvas, this.said);
    this.draw();
    new ResizeObserver(() => this.fit()).observe(this.canvas);
  }

  draw() {
    const width = this.canvas.clientWidth;
    const option = this.make(width);
    this.controls.hidden = !option;
    if (!option) {
      this.drawn?.dispose();
      this.drawn = null;
      this.canvas.hidden = true;
      this.said.className = "empty";
      this.said.textContent = this.empty;
      return;
    }
    this.canvas.hidden = false;
    this.said.className = "hint";
    this.said.textContent = typeof this.caption === "function" ? this.caption() : (this.caption ?? "");
    this.said.hidden = !this.said.textContent;
    this.canvas.style.height = `${option.height ?? this.height(width)}px`;
    this.drawn ??= echarts.init(this.canvas, null, { renderer: this.renderer });
    this.drawn.resize();
    this.drawn.setOption(option, { notMerge: true });
    this.width = width;
  }

  fit() {
    if (!this.drawn || this.canvas.clientWidth === this.width || !this.canvas.clientWidth) return;
    this.draw();
  }
}

const WIDE = (width) => Math.round(Math.min(380, Math.max(230, width * 0.52)));

export const CHARTS = {
  latency(place, model, theme) {
    const state = { log: false };
    const box = element("input", { type: "checkbox", onchange: () => ((state.log = box.checked), chart.draw()) });
    const chart = new Chart(place, {
      make: () => options.latency(model.latency(), theme.colours, state), height: WIDE,
      controls: [element("label", { class: "field" }, box, element("span", {}, "logarithmic time"))],
      empty: "No receipt came: there is nothing to draw.", caption: "Share of all expected receipts that had come by then.",
    });
    return chart;
  },

  hops(place, model, theme) {
    const state = { kind: "since_ms" };
    const { box } = choice("hops", "Time since", [["since_ms", "Since publication"], ["wait_ms", "Since the sender had it"]],
      state.kind, (kind) => ((state.kind = kind), chart.draw()));
    const chart = new Chart(place, {
      make: () => options.hops(model.hops(), theme.colours, state), height: WIDE, controls: [box],
      empty: "No receipt came: no hop was taken.",
      caption: "Boxes hold half of the receipts of a hop, lines all of them; the bar in a box is the median.",
    });
    return chart;
  },

  reach(place, model, theme) {
    return new Chart(place, {
      make: () => options.reach(model.reach(), model.snapshot.faults ?? [], theme.colours), height: WIDE,
      empty: model.reach() ? "No time passed between the first publication and the last receipt." : "Nothing was published on record.", caption: "The gap between the lines is what was on its way.",
    });
  },

  traffic(place, model, theme) {
    const found = model.snapshot.traffic;
    const state = { kind: found?.wire ? "wire" : "payload" };
    const kinds = Object.entries(options.TRAFFIC).filter(([key]) => found?.[key]).map(([key, [title]]) => [key, title]);
    const { box } = choice("traffic", "What to show", kinds, state.kind, (kind) => ((state.kind = kind), chart.draw()));
    const blocks = { node: "", group: " Rows and columns are groups.", range: " Rows and columns are ranges of nodes, in the run's order." };
    const chart = new Chart(place, {
      make: (width) => options.traffic(found, theme.colours, { ...state, width }), renderer: "canvas",
      height: (width) => Math.round(Math.min(560, Math.max(300, width * 0.8))), controls: [box],
      empty: "Nothing passed any link.",
      caption: () => (state.kind === "wire" ? "UDP payload as the nodes counted it, from row to column."
        : "From row to column, counted at the node that completed an artifact for another.") + blocks[found.block],
    });
    return chart;
  },

  duplicates(place, model, theme) {
    const found = model.snapshot.duplicates;
    return new Chart(place, {
      make: () => options.duplicates(found, model.nodes, theme.colours), height: () => 60 + 24 * (found?.node.length ?? 0),
      empty: "None: every payload came to every node once.",
      caption: () => `${plural(found.total, "whole payload")} came to ${plural(found.nodes_with, "node")} that held ${found.total === 1 ? "it" : "them"}`
        + (found.nodes_with > found.node.length ? `; the ${found.node.length} with most are shown.` : "."),
    });
  },

  faults(place, model, theme) {
    const found = model.snapshot.faults ?? [];
    const lost = lostPerSecond(model.snapshot.series);
    const below = `below them the receipts per second at the time${lost.length ? ", dashed the datagrams lost" : ""}`;
    return new Chart(place, {
      make: () => options.faults(found, model.reach(), lost, theme.colours),
      height: () => 200, empty: "No fault was ordered in this run.",
      caption: `${found.length > 20 ? `20 of ${count(found.length)} faults; all are in the table` : "The faults as ordered"}; ${below}.`,
    });
  },

  series(place, model, theme) {
    const found = model.snapshot.series;
    const state = { kind: 0, node: found?.nodes[0] ?? "" };
    const kind = select("Quantity", (found?.kinds ?? []).map((one, index) => [index, one.title]), (value) => ((state.kind = Number(value)), chart.draw()));
    const node = select("Node", (found?.nodes ?? []).map((name) => [name, name]), (value) => ((state.node = value), chart.draw()));
    const chart = new Chart(place, {
      make: () => options.series(found, model.snapshot.faults ?? [], theme.colours, state), height: WIDE, controls: [kind.box, node.box],
      empty: "No node was sampled: samples are taken once a second, in runs of live nodes.",
      caption: () => `${found.part_s > 1 ? `Each point stands for ${found.part_s} s. ` : ""}The chosen node stands out from ${
        found.total > found.nodes.length ? `${found.nodes.length} of ${count(found.total)} nodes, those that stand out first` : "the others"}.`,
    });
    return chart;
  },
};

/** Datagrams lost per second, all sampled nodes together. */
function lostPerSecond(found) {
  const lost = found?.kinds.find((one) => one.key === "lost");
  if (!lost) return [];
  return found.times_s.map((at, part) => [at, lost.values.reduce((sum, values) => sum + (values[part] ?? 0), 0)]);
}
