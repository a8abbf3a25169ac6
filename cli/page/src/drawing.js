// The network as sigma draws it: nodes take the colour of their hop as they receive, links as they carry.

import { Graph, Sigma } from "libraries";
import { Backdrop } from "./backdrop.js";
import { mixed, ofHop } from "./theme.js";

export const FAINT_MAX = 6_000; // links of the topology; more of them would be a grey disc
const LABEL_CHARS_MAX = 18; // of a name beside its node; under the pointer it is whole
const FRESH = 0.03; // of the whole time: for so long a node stands out after its receipt
const WORLD = { x: [-1500, 1800], y: [-560, 780] };
const MARKS_MAX = 2_000; // nodes with a mark: more of them are most of a large network, and the list beside it tells
const NAMED_MAX = 12; // nodes that are down, with their names
/** Lines from one point to the next, in sizes of a node. */
const CROSS = [[-1, -1], [1, 1], [-1, 1], [1, -1]];
const DIAMOND = [[0, -1], [1, 0], [1, 0], [0, 1], [0, 1], [-1, 0], [-1, 0], [0, -1]];
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

/** Whether this browser draws with WebGL. */
export function canDraw() {
  try {
    return Boolean(document.createElement("canvas").getContext("webgl2"));
  } catch {
    return false;
  }
}

export class Drawing {
  #times = { us: 0, span: 1 };

  constructor(place, model, theme, picked) {
    Object.assign(this, { model, theme, journey: null, chosen: -1, path: new Set(), critical: false });
    const canvas = document.createElement("canvas");
    canvas.className = "backdrop";
    const layer = document.createElement("div");
    layer.className = "sigma";
    place.replaceChildren(canvas, layer);
    this.backdrop = new Backdrop(canvas, theme);
    this.graph = new Graph({ multi: true, type: "directed" });
    this.#addNodes();
    this.sigma = new Sigma(this.graph, layer, this.#settings());
    this.sigma.on("clickNode", ({ node }) => picked(Number(node)));
    this.sigma.on("clickStage", () => picked(-1));
    this.sigma.on("afterRender", () => {
      this.backdrop.draw((at) => this.sigma.graphToViewport(at));
      this.#mark();
    });
    this.fitLabels(layer.clientWidth);
    this.sigma.on("enterNode", () => (layer.style.cursor = "pointer"));
    this.sigma.on("leaveNode", () => (layer.style.cursor = ""));
  }

  #settings() {
    const many = this.model.nodes.length;
    return {
      allowInvalidContainer: true, hideEdgesOnMove: many > 2000, zIndex: true, minEdgeThickness: 0.9, stagePadding: 36,
      labelFont: FONT, labelSize: 12, labelGridCellSize: 110, labelRenderedSizeThreshold: many > 200 ? 7 : 3,
      defaultEdgeType: "line", itemSizesReference: "screen", zoomToSizeRatioFunction: (ratio) => Math.sqrt(ratio),
      nodeReducer: (node, data) => this.#node(Number(node), data),
      edgeReducer: (_, data) => this.#edge(data),
      defaultDrawNodeLabel: (pen, data, settings) => this.#label(pen, data, settings),
      defaultDrawNodeHover: (pen, data, settings) => this.#label(pen, { ...data, bold: true }, settings),
      minCameraRatio: 0.02, maxCameraRatio: 4,
    };
  }

  #addNodes() {
    const many = this.model.nodes.length;
    this.size = many <= 60 ? 7 : many <= 600 ? 4.5 : many <= 3000 ? 3 : 1.8;
    this.model.nodes.forEach((name, index) => this.graph.addNode(index, { x: 0, y: 0, size: this.size, label: name }));
    const { pairs = [] } = this.model.snapshot.links ?? {};
    if (pairs.length / 2 > FAINT_MAX) return;
    for (let index = 0; index < pairs.length; index += 2) {
      this.graph.addEdge(pairs[index], pairs[index + 1], { size: many <= 60 ? 1 : 0.7, carries: -1 });
    }
  }

  /** Names of nodes as close together as a picture of this width bears. */
  fitLabels(width) {
    this.sigma.setSetting("labelDensity", this.model.nodes.length <= 60 && width > 700 ? 4 : 1);
  }

  /** Another artifact: its links take the place of those of the one before. */
  show(journey) {
    this.journey = journey;
    this.graph.filterEdges((_, data) => data.carries >= 0).forEach((edge) => this.graph.dropEdge(edge));
    for (const node of journey.order) {
      const parent = journey.parent(node);
      if (parent !== null && parent !== node) this.graph.addEdge(parent, node, { size: this.size > 6 ? 2 : this.size > 4 ? 1.6 : 1, carries: node });
    }
    this.most = journey.order.reduce((most, node) => Math.max(most, journey.hop[node]), 1);
    this.missing = new Set();
    this.last = journey.order.at(-1) ?? -1;
    this.#times.span = Math.max(1, journey.spanUs);
    this.#trace();
  }

  /** Put nodes at places: `{x, y}` by node. `kind`: what lies behind them. `stay`: with the view as it is. */
  arrange(places, kind, { stay = false } = {}) {
    this.backdrop.kind = kind;
    this.backdrop.spanUs = this.journey.spanUs;
    this.sigma.setCustomBBox(kind === "earth" ? extent(places, WORLD) : kind === "rings" ? { x: [-1.05, 1.05], y: [-1.05, 1.05] } : null);
    this.graph.updateEachNodeAttributes((node, data) => {
      data.x = places.x[node];
      data.y = places.y[node];
      return data;
    }, { attributes: ["x", "y"] });
    if (!stay) this.sigma.getCamera().setState({ x: 0.5, y: 0.5, ratio: 1, angle: 0 });
    this.paint();
  }

  at(us) {
    this.#times.us = us;
    this.sigma.refresh({ skipIndexation: true, schedule: true });
  }

  choose(node) {
    this.chosen = node;
    this.#trace();
    this.at(this.#times.us);
  }

  showCritical(on) {
    this.critical = on;
    this.#trace();
    this.at(this.#times.us);
  }

  /** The nodes on the way to the chosen one, or to the last. */
  #trace() {
    const end = this.chosen >= 0 ? this.chosen : this.critical ? this.last : -1;
    this.path = new Set(end >= 0 && this.journey?.has(end) ? this.journey.path(end) : []);
  }

  /** With the colours of the theme as they are now. */
  paint() {
    const colours = this.theme.colours;
    this.colours = {
      ...colours,
      waiting: mixed(colours.quiet, colours.card, 0.45), faint: mixed(colours.quiet, colours.card, this.graph.size > 1500 ? 0.2 : 0.42),
      // Where hundreds carry at a time, they would cover the nodes.
      carrying: this.graph.order > 60 ? mixed(colours.hot, colours.card, 0.65) : colours.hot,
      carried: colours.ramp.map((one) => mixed(one, colours.card, 0.6)),
    };
    this.sigma.refresh();
  }

  #node(index, data) {
    const { journey, colours } = this;
    if (!journey || !colours) return data;
    const { us, span } = this.#times;
    const at = journey.at(index);
    const shown = { ...data, color: colours.waiting, zIndex: 1, marked: this.model.away.has(index) };
    if (index === journey.publisher) {
      Object.assign(shown, { color: colours.accent, size: data.size * 1.7, zIndex: 4, forceLabel: true });
    } else if (at <= us) {
      shown.color = ofHop(colours.ramp, journey.hop[index], this.most);
      shown.zIndex = 2;
      if (us < span && us - at < span * FRESH) Object.assign(shown, { color: colours.hot, size: data.size * 1.45, zIndex: 3 });
    } else if (this.#missed(index, at) && us >= span) {
      Object.assign(shown, { color: colours.fail, zIndex: 3 });
    }
    if (this.model.down.has(index) && this.model.down.size <= NAMED_MAX) shown.forceLabel = true;
    if (index === this.chosen) Object.assign(shown, { size: data.size * 1.8, highlighted: true, forceLabel: true, zIndex: 5 });
    else if (this.path.has(index)) Object.assign(shown, { size: data.size * 1.3, forceLabel: this.path.size < 12, zIndex: 4 });
    return shown;
  }

  /** Nothing more is to come: in a run that goes on a node may still get it, and of one that does not behave nothing is expected. */
  #missed(index, at) {
    return Number.isNaN(at) && !this.model.snapshot.live && !this.model.behaviour(index);
  }

  /** Over nodes that are down a cross, around those that do not behave a diamond: told by their shape, not by colour alone. */
  #mark() {
    if (!this.colours) return;
    const pen = this.sigma.getCanvases().labels.getContext("2d");
    const marks = [...this.model.away].map((node) => [node, DIAMOND]).concat([...this.model.down.keys()].map((node) => [node, CROSS]));
    pen.lineCap = "round";
    for (const [node, shape] of marks.slice(0, MARKS_MAX)) {
      const data = this.sigma.getNodeDisplayData(node);
      if (!data) continue;
      const { x, y } = this.sigma.framedGraphToViewport(data);
      const out = Math.max(5, this.sigma.scaleSize(data.size) * (shape === CROSS ? 1.1 : 1.9));
      for (const [width, colour] of [[5, this.colours.card], [2.2, shape === CROSS ? this.colours.fail : this.colours.ink]]) {
        pen.beginPath();
        for (const [index, [right, down]] of shape.entries()) index % 2 ? pen.lineTo(x + right * out, y + down * out) : pen.moveTo(x + right * out, y + down * out);
        Object.assign(pen, { lineWidth: width, strokeStyle: colour });
        pen.stroke();
      }
    }
  }

  #edge(data) {
    const { journey, colours } = this;
    if (!journey || !colours) return data;
    if (data.carries < 0) return { ...data, color: colours.faint, zIndex: 0 };
    const { us } = this.#times;
    const node = data.carries;
    if (us < journey.at(journey.from[node])) return { ...data, hidden: true };
    if (us < journey.at(node)) return { ...data, color: colours.carrying, size: data.size * 1.4, zIndex: 3 };
    const onPath = this.path.has(node) && this.path.has(journey.from[node]);
    if (onPath) return { ...data, color: colours.accent, size: Math.max(3, data.size * 1.8), zIndex: 4 };
    return { ...data, color: ofHop(colours.carried, journey.hop[node], this.most), zIndex: 1 };
  }

  #label(pen, data, settings) {
    if (!data.label) return;
    pen.font = `${data.bold || data.highlighted ? 650 : 400} ${settings.labelSize}px ${settings.labelFont}`;
    pen.lineJoin = "round";
    pen.lineWidth = 4;
    pen.strokeStyle = this.colours?.card ?? "#fff";
    pen.fillStyle = this.colours?.ink ?? "#000";
    const text = data.label.length > LABEL_CHARS_MAX && !data.bold ? `${data.label.slice(0, LABEL_CHARS_MAX - 1)}\u2026` : data.label;
    const wide = pen.measureText(text).width;
    const room = data.size * (data.marked ? 2.1 : 1) + 4;
    const beside = data.x + room;
    // At the right edge a name stands on the left of its node.
    const x = beside + wide > pen.canvas.clientWidth - 4 ? data.x - room - wide : beside;
    pen.strokeText(text, x, data.y + settings.labelSize / 3);
    pen.fillText(text, x, data.y + settings.labelSize / 3);
  }

  /** A picture of what is shown now, for paper: WebGL keeps none. */
  picture() {
    this.sigma.refresh();
    const layers = [this.backdrop.canvas, ...Object.values(this.sigma.getCanvases())];
    const sheet = document.createElement("canvas");
    const { width, height } = this.sigma.getDimensions();
    sheet.width = width * (window.devicePixelRatio || 1);
    sheet.height = height * (window.devicePixelRatio || 1);
    const pen = sheet.getContext("2d");
    for (const layer of layers) if (layer.width && !layer.hidden) pen.drawImage(layer, 0, 0, sheet.width, sheet.height);
    return sheet.toDataURL("image/png");
  }
}

/** The part of the world that holds all places, with some room, and never less than a continent. */
function extent({ x, y }, world) {
  const span = (values, [least, most], room) => {
    const low = values.reduce((a, b) => Math.min(a, b), Infinity);
    const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    return [Math.max(least, low - room), Math.min(most, high + room)];
  };
  return { x: span(x, world.x, 180), y: span(y, world.y, 120) };
}
