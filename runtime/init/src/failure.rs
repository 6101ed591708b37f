//! What init can say about a failure without a heap: which operation, which errno, and up to 512 bytes of somebody
//! else's words (the file system context's, a hook's last line).

use rustix::io::Errno;

/// Init's result.
pub type Result<T = ()> = core::result::Result<T, Failure>;

/// An operation and its errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The system call, or a few words for what was checked.
    pub operation: &'static str,
    /// Its error.
    pub errno: Errno,
}

impl Failure {
    /// A failure of `operation`.
    pub fn new(operation: &'static str, errno: Errno) -> Self {
        Self { operation, errno }
    }

    /// For `map_err`: the failure of `operation` with an errno still to come.
    pub fn at(operation: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self { operation, errno }
    }
}

/// The room for words.
pub struct Note {
    bytes: [u8; 512],
    length: usize,
}

impl Note {
    /// Nothing said.
    pub fn new() -> Self {
        Self { bytes: [0; 512], length: 0 }
    }

    /// What was said.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Forgets what was said.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Adds a number in decimal.
    pub fn push_number(&mut self, number: u64) {
        let (digits, count) = decimal(number);
        self.push(digits.get(20 - count..).unwrap_or_default());
    }

    /// Adds `text`, as much of it as fits.
    pub fn push(&mut self, text: &[u8]) {
        for (slot, byte) in self.bytes.iter_mut().skip(self.length).zip(text) {
            *slot = *byte;
            self.length += 1;
        }
    }
}

/// A number's decimal digits, at the end of a buffer, and how many there are.
pub fn decimal(mut number: u64) -> ([u8; 20], usize) {
    let mut digits = [b'0'; 20];
    let mut count = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + (number % 10) as u8;
        number /= 10;
        count += 1;
        if number == 0 {
            break;
        }
    }
    (digits, count)
}
