/** Unix microseconds: the clock that producers and workers share, because they run on the same machine. */
export function micros() {
  return Math.round((performance.timeOrigin + performance.now()) * 1000)
}

/** Measured values at nearest rank. */
export function quantiles(values) {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (percent) => sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? 0
  return { count: sorted.length, p50: at(50), p99: at(99), max: at(100) }
}
