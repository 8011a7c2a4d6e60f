// What MaskGIT sampling decides outside of the graphs, equal to genie/world/maskgit.py.

import { gumbel, plus, randomBits } from "./random.js";

/** How many tokens are masked after each MaskGIT step; the last number is 0. */
export function maskedCounts(total, wantedSteps, schedule) {
  const ratio = {
    cosine: (done) => Math.cos((done * Math.PI) / 2),
    linear: (done) => 1 - done,
    exponential: (done) => 1 - Math.expm1(5 * done) / Math.expm1(5),
  }[schedule];
  const steps = Math.min(wantedSteps, total);
  const counts = [];
  let left = total;
  for (let step = 1; step <= steps; step += 1) {
    const wanted = Math.floor(total * ratio(step / steps) + 1e-9);
    left = Math.max(Math.min(wanted, left - 1), steps - step);
    counts.push(left);
  }
  return counts;
}

/** The same where the `first` tokens are sampled before the others: both parts have steps of their own. */
export function stepCounts(total, wantedSteps, schedule, first) {
  if (!first) return maskedCounts(total, wantedSteps, schedule);
  const early = Math.max(1, halfToEven((wantedSteps * first) / total));
  const late = Math.max(1, wantedSteps - early);
  const rest = total - first;
  const counts = maskedCounts(first, early, schedule).map((left) => rest + left);
  return [...counts, ...maskedCounts(rest, late, schedule)];
}

/** All positions in the order of sampling, the `first` ones before the others; null where confidence decides. */
export function tokenOrder(order, [rows, columns], key, first = 0) {
  if (order === "confidence") return null;
  const ranked = order === "random" ? randomOrder(rows * columns, key) : haltonOrder(rows, columns);
  return [...ranked.filter((position) => position < first), ...ranked.filter((position) => position >= first)];
}

/**
 * What a MaskGIT step is given: {fill, count}. `before` and `after` count masked tokens, `number`
 * counts the steps from 1. Its noise is put into `noise`, which is 0 without a temperature; other
 * positions keep what they had, since they are not sampled. While some of the `first` tokens are
 * masked, no others are sampled.
 */
export function stepInputs(
  tokens, vocabulary, ranked, key, number, before, after, temperature, noise, first = 0,
) {
  const total = tokens.length;
  const kept = total - before;
  const where = ranked
    ? ranked.slice(kept, total - after)
    : [...tokens.keys()].filter((position) => (
      tokens[position] === vocabulary && (kept >= first || position < first)
    ));
  const fill = new Uint8Array(total);
  const drawn = temperature > 0 ? gumbel(plus(key, number), where.length * vocabulary) : null;
  where.forEach((position, i) => {
    fill[position] = 1;
    if (drawn) noise.set(drawn.subarray(i * vocabulary, (i + 1) * vocabulary), position * vocabulary);
  });
  return { fill, count: before - after };
}

/** The nearest integer, an even one in the middle between two, as Python rounds. */
function halfToEven(value) {
  const near = Math.round(value);
  return near - value === 0.5 && near % 2 ? near - 1 : near;
}

/** A stable sort by random signed 64-bit integers. */
function randomOrder(total, key) {
  const bits = randomBits(key, total);
  const signed = (position) => bits[2 * position + 1] | 0;
  const positions = Array.from({ length: total }, (_, position) => position);
  return positions.sort((a, b) => signed(a) - signed(b) || bits[2 * a] - bits[2 * b] || a - b);
}

function haltonOrder(rows, columns) {
  const found = new Set();
  for (let index = 1; found.size < rows * columns; index += 1) {
    const row = Math.floor(radicalInverse(index, 2) * rows);
    found.add(row * columns + Math.floor(radicalInverse(index, 3) * columns));
  }
  return [...found];
}

function radicalInverse(index, base) {
  let [value, digit, left] = [0, 1 / base, index];
  while (left > 0) {
    value += (left % base) * digit;
    left = Math.floor(left / base);
    digit /= base;
  }
  return value;
}
