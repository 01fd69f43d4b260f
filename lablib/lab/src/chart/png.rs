//! Pixels as a PNG file in memory, without a file system and without another dependency.
//!
//! Charts are large areas of one colour, so matches against what came just before, or one row above, with DEFLATE's
//! fixed codes already come within a factor of two of what a real compressor reaches.

/// An 8-bit RGB image; `pixels` holds `3 × width × height` bytes.
pub(super) fn encode(width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
    let row = 3 * width as usize;
    let mut lines = Vec::with_capacity(pixels.len() + height as usize);
    for line in pixels.chunks_exact(row.max(1)).take(height as usize) {
        lines.push(0); // filter: none
        lines.extend_from_slice(line);
    }
    let mut header = Vec::with_capacity(13);
    header.extend_from_slice(&width.to_be_bytes());
    header.extend_from_slice(&height.to_be_bytes());
    header.extend_from_slice(&[8, 2, 0, 0, 0]);

    let mut file = vec![0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];
    chunk(&mut file, b"IHDR", &header);
    chunk(&mut file, b"IDAT", &zlib(&lines, row + 1));
    chunk(&mut file, b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend_from_slice(&(data.len() as u32).to_be_bytes());
    let start = file.len();
    file.extend_from_slice(kind);
    file.extend_from_slice(data);
    let sum = crc32(&file[start..]);
    file.extend_from_slice(&sum.to_be_bytes());
}

/// The CRC-32 of IEEE 802.3, as in PNG, in zip, and in SQL's `CRC32`.
pub(crate) fn crc32(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let mut c = n as u32;
            let mut bit = 0;
            while bit < 8 {
                c = if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
                bit += 1;
            }
            table[n] = c;
            n += 1;
        }
        table
    };
    !data.iter().fold(!0, |crc, byte| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8))
}

fn adler32(data: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for block in data.chunks(5000) {
        for byte in block {
            a += u32::from(*byte);
            b += a;
        }
        a %= 65_521;
        b %= 65_521;
    }
    b << 16 | a
}

fn zlib(data: &[u8], row: usize) -> Vec<u8> {
    const LONGEST: usize = 258;
    const WINDOW: usize = 32_768;
    const NOWHERE: usize = usize::MAX;
    let mut bits = Bits { bytes: vec![0x78, 0x01], pending: 0, count: 0 };
    bits.push(0b011, 3); // last block, fixed codes
    let mut seen = vec![NOWHERE; 1 << 15];
    let hash = |at: usize| {
        let word = u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
        (word.wrapping_mul(0x9e37_79b1) >> 17) as usize
    };
    let mut at = 0;
    while at < data.len() {
        let mut length = 0;
        let mut distance = 0;
        if at + 4 <= data.len() {
            let slot = hash(at);
            for start in [at.wrapping_sub(row), at.wrapping_sub(3), seen[slot]] {
                if start >= at || at - start > WINDOW {
                    continue;
                }
                let same = data[at..].iter().zip(&data[start..]).take(LONGEST).take_while(|(a, b)| a == b).count();
                if same > length {
                    (length, distance) = (same, at - start);
                }
            }
            seen[slot] = at;
        }
        if length >= 4 {
            bits.copy(length, distance);
            at += length;
        } else {
            bits.literal(u16::from(data[at]));
            at += 1;
        }
    }
    bits.literal(256);
    let mut bytes = bits.finish();
    bytes.extend_from_slice(&adler32(data).to_be_bytes());
    bytes
}

struct Bits {
    bytes: Vec<u8>,
    pending: u64,
    count: u32,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        self.pending |= u64::from(value) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.pending as u8);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    /// Huffman codes go out with their first bit first, everything else with its lowest.
    fn code(&mut self, code: u32, count: u32) {
        self.push(code.reverse_bits() >> (32 - count), count);
    }

    /// The fixed code of a literal, the end mark or a length (RFC 1951, 3.2.6).
    fn literal(&mut self, symbol: u16) {
        let symbol = u32::from(symbol);
        match symbol {
            0..=143 => self.code(0x30 + symbol, 8),
            144..=255 => self.code(0x190 + symbol - 144, 9),
            256..=279 => self.code(symbol - 256, 7),
            _ => self.code(0xc0 + symbol - 280, 8),
        }
    }

    fn copy(&mut self, length: usize, distance: usize) {
        // Both tables of RFC 1951, 3.2.5 double their step every four (lengths) or two (distances) codes.
        if length == 258 {
            self.literal(285);
        } else {
            let rest = (length - 3) as u32;
            let extra = if rest < 8 { 0 } else { 29 - rest.leading_zeros() };
            self.literal((257 + 4 * extra + (rest >> extra)) as u16);
            self.push(rest & ((1 << extra) - 1), extra);
        }
        let rest = (distance - 1) as u32;
        let extra = if rest < 4 { 0 } else { 30 - rest.leading_zeros() };
        self.code(2 * extra + (rest >> extra), 5);
        self.push(rest & ((1 << extra) - 1), extra);
    }

    fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.push(0, 8 - self.count);
        }
        self.bytes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A decoder for fixed codes, written from the RFC's tables and not from the encoder's arithmetic.
    fn inflate(data: &[u8]) -> Vec<u8> {
        const LENGTHS: [(usize, u32); 29] = [
            (3, 0),
            (4, 0),
            (5, 0),
            (6, 0),
            (7, 0),
            (8, 0),
            (9, 0),
            (10, 0),
            (11, 1),
            (13, 1),
            (15, 1),
            (17, 1),
            (19, 2),
            (23, 2),
            (27, 2),
            (31, 2),
            (35, 3),
            (43, 3),
            (51, 3),
            (59, 3),
            (67, 4),
            (83, 4),
            (99, 4),
            (115, 4),
            (131, 5),
            (163, 5),
            (195, 5),
            (227, 5),
            (258, 0),
        ];
        let mut position = 0;
        let mut bit = || {
            let value = u32::from(data[position / 8] >> (position % 8) & 1);
            position += 1;
            value
        };
        assert_eq!((bit(), bit(), bit()), (1, 1, 0));
        let mut out = Vec::new();
        loop {
            let mut code = 0;
            for _ in 0..7 {
                code = code << 1 | bit();
            }
            let symbol = if code <= 0b001_0111 {
                256 + code
            } else {
                code = code << 1 | bit();
                match code {
                    0x30..=0xbf => code - 0x30,
                    0xc0..=0xc7 => 280 + code - 0xc0,
                    _ => 144 + (code << 1 | bit()) - 0x190,
                }
            };
            if symbol < 256 {
                out.push(symbol as u8);
                continue;
            }
            if symbol == 256 {
                return out;
            }
            let (base, extra) = LENGTHS[symbol as usize - 257];
            let length = base + (0..extra).map(|i| bit() << i).sum::<u32>() as usize;
            let code = (0..5).fold(0, |code, _| code << 1 | bit());
            let extra = if code < 4 { 0 } else { code / 2 - 1 };
            let base = if code < 4 { code + 1 } else { ((2 + code % 2) << extra) + 1 };
            let distance = (base + (0..extra).map(|i| bit() << i).sum::<u32>()) as usize;
            for _ in 0..length {
                out.push(out[out.len() - distance]);
            }
        }
    }

    #[test]
    fn what_was_compressed_comes_back() {
        let mut noise = 7_u32;
        let mut random = |mask: u32| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24 & mask) as u8
        };
        for (size, mask) in [(0, 1), (1, 255), (5, 255), (70_000, 255), (70_000, 1), (200_000, 0), (90_000, 3)] {
            let data: Vec<u8> = (0..size).map(|_| random(mask)).collect();
            for row in [1, 4, 300, 4561, 40_000] {
                let packed = zlib(&data, row);
                assert_eq!(inflate(&packed[2..packed.len() - 4]), data, "{size} bytes, mask {mask}, row {row}");
            }
        }
        let mut every_length = Vec::new();
        for length in 3..=300_usize {
            every_length.extend((0..length as u32).map(|_| 9));
            every_length.extend(length.to_be_bytes());
        }
        let packed = zlib(&every_length, 11);
        assert_eq!(inflate(&packed[2..packed.len() - 4]), every_length);
    }

    #[test]
    fn sums_match_the_published_check_values() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn the_header_says_the_size() {
        let file = encode(2, 1, &[1, 2, 3, 4, 5, 6]);
        assert_eq!(&file[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(file[16..24], [0, 0, 0, 2, 0, 0, 0, 1]);
        assert_eq!(&file[file.len() - 8..file.len() - 4], b"IEND");
    }
}
