// Quantities in the words of the report: `0.4 ms`, `141 ms`, `2.31 s`, `64 KiB`, `1,234`.

const MISSING = "\u2013";

export function ms(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return MISSING;
  const size = Math.abs(value);
  if (size >= 60_000) return `${(value / 60_000).toFixed(1)} min`;
  if (size >= 1000) return `${(value / 1000).toFixed(size < 10_000 ? 2 : 1)} s`;
  if (size >= 100 || value === 0) return `${value.toFixed(0)} ms`;
  return size >= 1 ? `${value.toFixed(1)} ms` : `${value.toPrecision(2)} ms`;
}

/** A mark on an axis of time: without digits that say nothing. */
export function tick(value) {
  return Math.abs(value) >= 1000 ? `${trim(value / 1000)} s` : `${trim(value)} ms`;
}

export const seconds = (value) => `${trim(value)} s`;

export function bytes(value) {
  let rest = value;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (Math.abs(rest) < 1024) return `${unit === "B" ? Math.round(rest) : trim(rest)} ${unit}`;
    rest /= 1024;
  }
  return `${trim(rest)} TiB`;
}

export const count = (value) => value.toLocaleString("en-US");

/** `100 %` for all and `0 %` for nothing, never by rounding. */
export function percent(part, whole) {
  if (!whole) return MISSING;
  const share = (part / whole) * 100;
  if (part === whole || part === 0) return `${share.toFixed(0)} %`;
  return `${Math.min(Math.max(share, 0.1), 99.9).toFixed(1)} %`;
}

export function inUnit(value, unit) {
  if (value === null || value === undefined) return MISSING;
  if (unit === "B") return bytes(value);
  if (unit === "B/s") return `${bytes(value)}/s`;
  if (unit === "ms") return ms(value);
  if (unit === "%") return `${trim(value)} %`;
  return unit === "1/s" ? `${trim(value)}/s` : trim(value);
}

export const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

function trim(value) {
  return String(Number(value.toPrecision(3)));
}
