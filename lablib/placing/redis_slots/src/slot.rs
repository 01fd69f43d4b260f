//! Which slot a key belongs to: CRC16 of the key, or of its hash tag, modulo 16,384.

/// How many slots a cluster has.
pub const SLOTS: u16 = 16_384;

/// The CRC of every byte, worked out when this is compiled.
const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    const POLYNOMIAL: u16 = 0x1021;
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ POLYNOMIAL };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// CRC-16/XMODEM: polynomial 0x1021, from zero, not reflected.
///
/// ```
/// use redis_slots::crc16;
///
/// assert_eq!(crc16(b"123456789"), 0x31c3);
/// ```
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

/// The part of a key that decides its slot: what stands between the first `{` and the first `}` behind it, if that is
/// anything; else the whole key.
///
/// ```
/// use redis_slots::hash_tag;
///
/// assert_eq!(hash_tag(b"{user:7}.following"), b"user:7");
/// assert_eq!(hash_tag(b"{}.following"), b"{}.following");
/// ```
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let behind = &key[open + 1..];
        let length = behind.iter().position(|&byte| byte == b'}')?;
        (length > 0).then(|| &behind[..length])
    });
    tag.unwrap_or(key)
}

/// The slot of a key, from 0 to 16,383. Any bytes are a key.
///
/// ```
/// use redis_slots::slot_of;
///
/// assert_eq!(slot_of("test1"), 4_768);
/// assert_eq!(slot_of("{bulkKey}:key-1"), slot_of("{bulkKey}:key-2"));
/// ```
pub fn slot_of(key: impl AsRef<[u8]>) -> u16 {
    crc16(hash_tag(key.as_ref())) % SLOTS
}

/// The slot as somebody works it out who never read about hash tags. For showing what tags are for.
pub fn slot_without_tags(key: impl AsRef<[u8]>) -> u16 {
    crc16(key.as_ref()) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors() {
        let vectors: [(&str, u16); 8] = [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("test1", 4_768),
            ("test1:0", 3_318),
            ("test1:1", 7_383),
            ("test1:2", 11_444),
            ("{bulkKey}:key-0", 13_923),
            ("{user1000}.following", 3_443),
        ];
        for (key, slot) in vectors {
            assert_eq!(slot_of(key), slot, "{key}");
        }
        assert_eq!(slot_of(""), 0);
    }

    #[test]
    fn the_tag_is_the_first_brace_pair_with_something_in_it_or_there_is_none() {
        for (key, tag) in [
            ("foo{bar}baz", "bar"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("}foo{bar}", "bar"),
            ("foo{bar", "foo{bar"),
            ("foo}bar{", "foo}bar{"),
            ("{}", "{}"),
            ("{a}", "a"),
            ("{", "{"),
        ] {
            assert_eq!(hash_tag(key.as_bytes()), tag.as_bytes(), "{key}");
        }
    }
}
