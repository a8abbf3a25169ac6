// Charts in the page: each in its place, drawn again when the theme, the width, a choice or the run changes.

import { echarts } from "libraries";
import { choice, element, select } from "./dom.js";
import { count, plural } from "./format.js";
import * as options from "./options.js";
import { Pace } from "./pace.js";

/** One chart below its controls, with a sentence under it. `make` gives the options, or null where there is nothing to draw. */
class Chart {
  constructor(place, { make, height, empty, caption, controls = [], renderer = "svg" }) {
    Object.assign(this, { place, make, height, empty, caption, renderer });
    this.controls = element("div", { class: "controls" }, ...controls);
    this.canvas = element("div", { class: "plot" });
    this.said = element("p", { class: "hint" });
    place.replaceChildren(...(controls.length ? [this.controls] : []), this.canvas, this.said);
    this.draw();
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(this.canvas);
  }

  /** Draw, but not once for each of many things that come at the same time. */
  soon() {
    this.pace ??= new Pace(() => (this.draw(), this.drawn?.getZr().flush()), this.place);
    this.pace.ask();
  }

  dispose() {
    this.disposed = true;
    this.pace?.stop();
    this.observer.disconnect();
    this.drawn?.dispose();
  }

  draw() {
    if (this.disposed) return;
    const width = this.canvas.clientWidth || this.place.clientWidth;
    const option = this.make(width);
    this.controls.hidden = !option;
    if (!option) {
      this.drawn?.dispose();
      this.drawn = null;
      this.canvas.hidden = true;
      this.said.className = "empty";
      this.said.textContent = typeof this.empty === "function" ? this.empty() : this.empty;
      return;
    }
    this.canvas.hidden = false;
    this.said.className = "hint";
    this.said.textContent = typeof this.caption === "function" ? this.caption() : (this.caption ?? "");
    this.said.hidden = !this.said.textContent;
    this.canvas.style.height = `${option.height ?? this.height(width)}px`;
    this.drawn ??= echarts.init(this.canvas, null, { renderer: this.renderer });
    if (this.drawn.getWidth() !== this.canvas.clientWidth || this.drawn.getHeight() !== this.canvas.clientHeight) this.drawn.resize();
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
      empty: () => (model.reach() ? "No time passed between the first publication and the last receipt." : model.snapshot.live ? "Nothing was published yet." : "Nothing was published on record."), caption: "The gap between the lines is what was on its way.",
    });
  },

  traffic(place, model, theme) {
    const found = () => model.snapshot.traffic;
    const state = { kind: "" };
    const kinds = choice("traffic", "What to show", [], "", (kind) => ((state.kind = kind), chart.draw()));
    const blocks = { node: "", group: " Rows and columns are groups.", range: " Rows and columns are ranges of nodes, in the run's order." };
    /** Bytes on the wire are offered once nodes were sampled, and shown first unless something was chosen. */
    const offer = () => {
      for (const [key, [title]] of Object.entries(options.TRAFFIC)) if (found()?.[key] && !kinds.inputs.has(key)) kinds.add([key, title]);
      const kind = state.kind || (found()?.wire ? "wire" : "payload");
      for (const [key, input] of kinds.inputs) input.checked = key === kind;
      return kind;
    };
    const chart = new Chart(place, {
      make: (width) => options.traffic(found(), theme.colours, { kind: offer(), width }), renderer: "canvas",
      height: (width) => Math.round(Math.min(560, Math.max(300, width * 0.8))), controls: [kinds.box],
      empty: model.snapshot.live ? "Nothing passed any link yet." : "Nothing passed any link.",
      caption: () => (offer() === "wire" ? "UDP payload as the nodes counted it, from row to column."
        : "From row to column, counted at the node that completed an artifact for another.") + blocks[found().block],
    });
    return chart;
  },

  duplicates(place, model, theme) {
    const found = () => model.snapshot.duplicates;
    return new Chart(place, {
      make: () => options.duplicates(found(), model.nodes, theme.colours), height: () => 60 + 24 * (found()?.node.length ?? 0),
      empty: model.snapshot.live ? "None yet." : "None: every payload came to every node once.",
      caption: () => {
        const { total, nodes_with: nodes, node } = found();
        return `${plural(total, "whole payload")} came to ${plural(nodes, "node")} that held ${total === 1 ? "it" : "them"}`
          + (nodes > node.length ? `; the ${node.length} with most are shown.` : ".");
      },
    });
  },

  faults(place, model, theme) {
    const found = () => model.snapshot.faults ?? [];
    const lost = () => lostPerSecond(model.snapshot.series);
    return new Chart(place, {
      make: () => options.faults(found(), model.reach(), lost(), theme.colours),
      height: () => 200, empty: model.snapshot.live ? "No fault was ordered yet." : "No fault was ordered in this run.",
      caption: () => {
        const below = `below them the receipts per second at the time${lost().length ? ", dashed the datagrams lost" : ""}`;
        return `${found().length > options.FAULT_ROWS_MAX ? `${options.FAULT_ROWS_MAX} of ${count(found().length)} faults; all are in the table` : "The faults as ordered"}; ${below}.`;
      },
    });
  },

  series(place, model, theme) {
    const found = () => model.snapshot.series;
    const state = { kind: 0, node: "" };
    const kind = select("Quantity", [], (value) => ((state.kind = Number(value)), chart.draw()));
    const node = select("Node", [], (value) => ((state.node = value), chart.draw()));
    const offer = () => {
      kind.offer((found()?.kinds ?? []).map((one, index) => [index, one.title]));
      node.offer((found()?.nodes ?? []).map((name) => [name, name]));
      return { kind: state.kind, node: node.input.value };
    };
    const chart = new Chart(place, {
      make: () => options.series(found(), model.snapshot.faults ?? [], theme.colours, offer()), height: WIDE, controls: [kind.box, node.box],
      empty: model.snapshot.live ? "No node was sampled yet: samples are taken once a second, while a run goes on." : "No node was sampled: samples are taken once a second, in runs of live nodes.",
      caption: () => {
        const { part_s: part, total, nodes } = found();
        return `${part > 1 ? `Each point stands for ${part} s. ` : ""}The chosen node stands out from ${
          total > nodes.length ? `${nodes.length} of ${count(total)} nodes, those that stand out first` : "the others"}.`;
      },
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
