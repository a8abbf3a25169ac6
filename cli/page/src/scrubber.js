// The time control of the network: play, step by receipts, or drag; told in words beside it.

import { element, reducedMotion } from "./dom.js";
import { count, ms, percent } from "./format.js";

const STEPS = 1000;
const PLAY_MS = 6000;
const CALM_STEPS = 12; // instead of motion, for those who asked for less of it
const BARS = 120;

export class Scrubber {
  #us = 0;
  #timer = 0;

  /** `moved(us)` is called with every new time. */
  constructor(theme, moved) {
    this.theme = theme;
    this.moved = moved;
    this.play = element("button", { type: "button", class: "main", onclick: () => this.toggle() }, "Play");
    this.range = element("input", {
      type: "range", min: 0, max: STEPS, step: 1, value: 0, "aria-label": "Time since publication",
      oninput: () => (this.pause(), this.to((Number(this.range.value) / STEPS) * this.spanUs)),
    });
    this.bars = element("canvas", { class: "bars", "aria-hidden": "true" });
    this.said = element("output", { class: "readout" });
    const step = (by, label, text) => element("button", { type: "button", "aria-label": label, title: label, onclick: () => this.step(by) }, text);
    this.box = element("div", { class: "scrubber" }, this.play, step(-1, "Previous receipt", "\u2039"), step(1, "Next receipt", "\u203a"),
      element("div", { class: "track" }, this.bars, this.range), this.said);
    new ResizeObserver(() => this.#drawBars()).observe(this.bars);
  }

  /** Show another journey, from its end: that is what a still picture should show. */
  show(journey, expected) {
    this.pause();
    this.journey = journey;
    this.expected = expected;
    this.spanUs = Math.max(1, journey.spanUs);
    this.#drawBars();
    this.to(this.spanUs);
  }

  /** The journey that is shown has grown: whoever looks at its end still does, and whoever chose a time stays there. */
  grown(expected) {
    const atEnd = this.#us >= this.spanUs;
    this.expected = expected;
    this.spanUs = Math.max(1, this.journey.spanUs);
    this.#drawBars();
    this.to(atEnd && !this.#timer ? this.spanUs : this.#us);
  }

  get us() {
    return this.#us;
  }

  to(us) {
    this.#us = Math.max(0, Math.min(this.spanUs, us));
    this.range.value = Math.round((this.#us / this.spanUs) * STEPS);
    const came = this.journey.reachedBy(this.#us);
    const words = `${ms(Math.min(this.#us, this.journey.spanUs) / 1000)} \u00b7 ${count(came)} of ${count(this.expected)} nodes (${percent(came, this.expected)})`;
    this.said.textContent = words;
    this.range.setAttribute("aria-valuetext", words);
    this.moved(this.#us, came);
  }

  /** To the time of the next receipt, or of the one before. */
  step(by) {
    this.pause();
    const { order, arrival } = this.journey;
    const came = this.journey.reachedBy(this.#us);
    if (by > 0) this.to(came < order.length ? arrival[order[came]] : this.spanUs);
    else {
      let index = came - 1;
      while (index >= 0 && arrival[order[index]] >= this.#us) index--;
      this.to(index >= 0 ? arrival[order[index]] : 0);
    }
  }

  toggle() {
    if (this.#timer) this.pause();
    else this.start();
  }

  start() {
    if (this.#us >= this.spanUs) this.to(0);
    this.play.textContent = "Pause";
    if (reducedMotion()) {
      const on = () => {
        this.to(this.#us + this.spanUs / CALM_STEPS);
        this.#timer = this.#us < this.spanUs ? setTimeout(on, PLAY_MS / CALM_STEPS) : 0;
        if (!this.#timer) this.pause();
      };
      this.#timer = setTimeout(on, 0);
      return;
    }
    let last = performance.now();
    const on = (now) => {
      this.to(this.#us + (this.spanUs * (now - last)) / PLAY_MS);
      last = now;
      if (this.#us < this.spanUs) this.#timer = requestAnimationFrame(on);
      else this.pause();
    };
    this.#timer = requestAnimationFrame(on);
  }

  pause() {
    if (this.#timer) {
      cancelAnimationFrame(this.#timer);
      clearTimeout(this.#timer);
    }
    this.#timer = 0;
    this.play.textContent = "Play";
  }

  /** How many receipts came when, behind the slider. */
  #drawBars() {
    const { clientWidth: width, clientHeight: height } = this.bars;
    if (!this.journey || !width) return;
    const scale = window.devicePixelRatio || 1;
    this.bars.width = width * scale;
    this.bars.height = height * scale;
    const counts = new Array(BARS).fill(0);
    for (const node of this.journey.order) {
      counts[Math.max(0, Math.min(BARS - 1, Math.floor((this.journey.arrival[node] / this.spanUs) * BARS)))] += 1;
    }
    const most = Math.max(...counts, 1);
    const pen = this.bars.getContext("2d");
    pen.scale(scale, scale);
    pen.fillStyle = this.theme.colours.accent;
    pen.globalAlpha = 0.35;
    counts.forEach((many, index) => {
      const tall = many ? Math.max(1.5, (many / most) * height) : 0;
      pen.fillRect((index * width) / BARS, height - tall, Math.max(1, width / BARS - 1), tall);
    });
  }

  redraw() {
    this.#drawBars();
  }
}
