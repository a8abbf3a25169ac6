import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const source = readFileSync(new URL("../src/theme.js", import.meta.url), "utf8");
const CARD = { light: "#ffffff", dark: "#182029" };

function luminance(colour) {
  const [r, g, b] = colour.match(/[0-9a-f]{2}/gi).map((two) => parseInt(two, 16) / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a, b) {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

for (const mode of ["light", "dark"]) {
  const palette = (name) => {
    const [, block] = source.match(new RegExp(`const ${name} = \\{([^}]*)\\}`));
    return JSON.parse(block.match(new RegExp(`${mode}: (\\[[^\\]]*\\])`))[1]);
  };

  test(`curves and hops stand out from a ${mode} card`, () => {
    for (const colour of [...palette("CURVES"), ...palette("RAMP")]) assert.ok(contrast(colour, CARD[mode]) >= 2.3, colour);
    for (const colour of palette("CURVES").slice(0, 4)) assert.ok(contrast(colour, CARD[mode]) >= 3, colour);
  });

  test(`a ${mode} heat map grows in contrast from nothing to most`, () => {
    const steps = palette("HEAT").map((colour) => contrast(colour, CARD[mode]));
    assert.deepEqual(steps, [...steps].sort((a, b) => a - b));
  });
}
