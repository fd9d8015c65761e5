//! What was read, as a hash that can go on after a resume without reading it all again.

/// Bytes hashed into one link of the chain.
pub(super) const BLOCK: u64 = 1 << 20;

/// `link(n) = blake3(link(n-1) || block n)` over blocks of 1 MiB, and the hash of the block that is not yet full.
///
/// To go on after a resume, the last link and at most 1 MiB of the file are needed, however long the file is.
#[derive(Clone)]
pub(super) struct Chain {
    /// The link over all full blocks.
    link: [u8; 32],
    /// The link and the bytes of the block since.
    open: blake3::Hasher,
    len: u64,
}

impl Chain {
    pub(super) fn new() -> Self {
        Self::after([0; 32], 0)
    }

    /// The chain after `full` bytes, a multiple of [`BLOCK`].
    pub(super) fn after(link: [u8; 32], full: u64) -> Self {
        let mut open = blake3::Hasher::new();
        open.update(&link);
        Self { link, open, len: full }
    }

    /// Takes the next bytes.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK - self.len % BLOCK).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.update(now);
            self.len += now.len() as u64;
            if self.len.is_multiple_of(BLOCK) {
                *self = Self::after(*self.open.finalize().as_bytes(), self.len);
            }
            bytes = later;
        }
    }

    /// The link over all full blocks, in hex.
    pub(super) fn link(&self) -> String {
        blake3::Hash::from_bytes(self.link).to_hex().to_string()
    }

    /// The hash of everything so far, in hex.
    pub(super) fn whole(&self) -> String {
        self.open.finalize().to_hex().to_string()
    }
}

/// Reads what [`Chain::link`] wrote.
pub(super) fn parse_link(hex: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(hex).ok().map(|h| *h.as_bytes())
}

/// A block's hash, in hex.
pub(super) fn block_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
