// Colours: those of the style sheet, and palettes that people who see fewer colours can tell apart.

/** Okabe and Ito's, in an order in which neighbours differ in lightness, too. */
const CURVES = {
  light: ["#0b62b8", "#d55e00", "#007a59", "#a34d83", "#b07a00", "#5a6472", "#2f9fd9", "#6b3fa0"],
  dark: ["#6fb4f5", "#ff9a4d", "#4cc9a0", "#e3a0c8", "#f0c45a", "#aab4c2", "#9bd4f5", "#b99af0"],
};
/** Viridis without the end that would vanish in the page: dark to light, or the other way round. */
const RAMP = {
  light: ["#3b528b", "#2c728e", "#21918c", "#28a06b", "#5eac3a", "#b3a400", "#d98f00"],
  dark: ["#8fa8ff", "#55b8e0", "#35c9b0", "#5cd98a", "#a5e05a", "#e8e04a", "#ffb84d"],
};
/** Cividis: from nothing to most. */
const HEAT = {
  light: ["#e9eef5", "#b9c7dc", "#7f97bd", "#4a679a", "#1f3d75", "#06204f"],
  dark: ["#1f2a3a", "#3a4766", "#66688a", "#948b86", "#c8b06a", "#ffe15a"],
};
const NAMES = ["page", "card", "ink", "quiet", "line", "accent", "pass", "fail", "invalid", "wash"];

export class Theme {
  #listeners = new Set();
  #system = window.matchMedia("(prefers-color-scheme: dark)");
  #printing = false;

  constructor(button) {
    this.button = button;
    this.#system.addEventListener("change", () => this.#tell());
    button?.addEventListener("click", () => {
      document.documentElement.dataset.theme = this.dark ? "light" : "dark";
      this.#tell();
    });
    if (button) button.hidden = false;
    this.#name();
  }

  get dark() {
    if (this.#printing) return false;
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : this.#system.matches;
  }

  /** Paper is white. */
  set printing(on) {
    this.#printing = on;
    this.#tell();
  }

  get colours() {
    const style = getComputedStyle(document.documentElement);
    const found = Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    const mode = this.dark ? "dark" : "light";
    return { ...found, curves: CURVES[mode], ramp: RAMP[mode], heat: HEAT[mode], hot: this.dark ? "#ff9a4d" : "#d55e00" };
  }

  listen(tell) {
    this.#listeners.add(tell);
    return () => this.#listeners.delete(tell);
  }

  #tell() {
    this.#name();
    for (const tell of this.#listeners) tell();
  }

  #name() {
    if (!this.button) return;
    this.button.textContent = this.dark ? "Light" : "Dark";
    this.button.setAttribute("aria-label", `Show the page ${this.dark ? "light" : "dark"}`);
  }
}

/** A colour between two, as `#rrggbb`: of what is drawn over a background without being transparent. */
export function mixed(over, under, share) {
  const [a, b] = [over, under].map((text) => text.match(/[0-9a-f]{2}/gi).map((two) => parseInt(two, 16)));
  return `#${a.map((value, i) => Math.round(value * share + b[i] * (1 - share)).toString(16).padStart(2, "0")).join("")}`;
}

/** The colour of a hop, of so many. */
export function ofHop(ramp, hop, most) {
  if (most <= 1) return ramp[1];
  return ramp[Math.round(((Math.min(hop, most) - 1) / (most - 1)) * (ramp.length - 1))] ?? ramp[0];
}
