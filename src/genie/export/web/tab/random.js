// Random numbers as a function of a key and a counter, equal to genie/world/rng.py bit for bit:
// SplitMix64 (Steele, Lea, Flood 2014) on 32-bit halves, because a tab has no fast 64-bit integers.
// A key is [high, low], two unsigned 32-bit numbers.

const STRIDE = [0x9e3779b9, 0x7f4a7c15];

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
  let high = keyHigh | 0;
  let low = keyLow | 0;
  for (let i = 0; i < count; i += 1) {
    const sum = (low + STRIDE[1]) | 0;
    const carry = (sum >>> 0) < (low >>> 0) ? 1 : 0;
    high = (high + STRIDE[0] + carry) | 0;
    low = sum;
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

// Without arrays and numbers above 2^31, which V8 would allocate: a frame takes many of these.
function mixInto(bits, at, startHigh, startLow) {
  let high = startHigh | 0;
  let low = startLow | 0;
  low ^= (low >>> 30) | (high << 2);
  high ^= high >>> 30;
  let upper = (Math.imul(high, 0x1ce4e5b9) + Math.imul(low, 0xbf58476d) + highProduct(low, 0x1ce4e5b9)) | 0;
  low = Math.imul(low, 0x1ce4e5b9);
  high = upper;
  low ^= (low >>> 27) | (high << 5);
  high ^= high >>> 27;
  upper = (Math.imul(high, 0x133111eb) + Math.imul(low, 0x94d049bb) + highProduct(low, 0x133111eb)) | 0;
  low = Math.imul(low, 0x133111eb);
  high = upper;
  bits[at] = low ^ ((low >>> 31) | (high << 1));
  bits[at + 1] = high ^ (high >>> 31);
}

/** The upper half of the product of two unsigned 32-bit numbers, as a signed one. */
function highProduct(a, b) {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const other = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + (middle >>> 16) + (other >>> 16)) | 0;
}
