// Random numbers as a function of a key and a counter, equal to genie/world/rng.py bit for bit:
// SplitMix64 (Steele, Lea, Flood 2014) on 32-bit halves, because a tab has no fast 64-bit integers.
// A key is [high, low], two unsigned 32-bit numbers.

const STRIDE = [0x9e3779b9, 0x7f4a7c15];
const FACTORS = [[0xbf58476d, 0x1ce4e5b9], [0x94d049bb, 0x133111eb]];
const SHIFTS = [30, 27];

/** The key of a seed and the number of a frame. */
export function makeKey(seed, number) {
  return mixed(plus(mixed([Math.floor(seed / 2 ** 32) >>> 0, seed >>> 0]), number));
}

/** The key `number` places after another. */
export function plus([high, low], number) {
  const sum = low + number;
  return [(high + (sum >= 2 ** 32 ? 1 : 0)) >>> 0, sum >>> 0];
}

/** The first `count` random 64-bit integers of a key: Uint32Array of low and high halves in turn. */
export function randomBits([keyHigh, keyLow], count) {
  const bits = new Uint32Array(2 * count);
  let [high, low] = [keyHigh, keyLow];
  for (let i = 0; i < count; i += 1) {
    const sum = low + STRIDE[1];
    high = (high + STRIDE[0] + (sum >= 2 ** 32 ? 1 : 0)) >>> 0;
    low = sum >>> 0;
    mixInto(bits, 2 * i, high, low);
  }
  return bits;
}

/** `count` values of standard Gumbel noise. */
export function gumbel(key, count) {
  const halves = randomBits(key, (count + 1) >> 1);
  const noise = new Float32Array(count);
  for (let i = 0; i < count; i += 1) {
    const uniform = (2 * (halves[i] & 0x7fffff) + 1) * 2 ** -24; // never 0, never 1
    noise[i] = -Math.log(Math.fround(-Math.log(uniform)));
  }
  return noise;
}

function mixed([high, low]) {
  const bits = new Uint32Array(2);
  mixInto(bits, 0, high, low);
  return [bits[1], bits[0]];
}

function mixInto(bits, at, startHigh, startLow) {
  let [high, low] = [startHigh, startLow];
  for (let round = 0; round < 2; round += 1) {
    const shift = SHIFTS[round];
    const [factorHigh, factorLow] = FACTORS[round];
    low = (low ^ ((low >>> shift) | (high << (32 - shift)))) >>> 0;
    high = (high ^ (high >>> shift)) >>> 0;
    high = (Math.imul(high, factorLow) + Math.imul(low, factorHigh) + highProduct(low, factorLow)) >>> 0;
    low = Math.imul(low, factorLow) >>> 0;
  }
  bits[at] = low ^ ((low >>> 31) | (high << 1));
  bits[at + 1] = high ^ (high >>> 31);
}

/** The upper half of the product of two unsigned 32-bit numbers. */
function highProduct(a, b) {
  const [aLow, aHigh, bLow, bHigh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const other = aLow * bHigh + (middle & 0xffff);
  return aHigh * bHigh + (middle >>> 16) + (other >>> 16);
}
