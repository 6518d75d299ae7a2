//! The server's side of Modbus: requests cut out of a byte stream, answers put into frames.
//!
//! Shared by the simulator and by [`crate::serve`]. Limits first: no frame is longer than the standard's, and a frame
//! once begun must end soon.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// Longest PDU (Modbus Application Protocol V1.1b3, section 4.1).
const PDU_MAX: usize = 253;
/// Longest serial frame: unit, PDU, checksum.
const RTU_FRAME_MAX: usize = PDU_MAX + 3;
/// A frame once begun must be complete within this: a client that stalls inside one is cut off.
const FRAME_TIME_MAX: Duration = Duration::from_secs(5);
/// Silence that ends an RTU frame. The standard's 3.5 characters cannot be seen through TCP or a USB adapter.
const RTU_SILENCE: Duration = Duration::from_millis(50);
/// The most registers one read may ask for (Modbus Application Protocol V1.1b3, section 6.3).
pub(crate) const READ_MAX: u16 = 125;

/// Exception codes that a server of ours sends (Modbus Application Protocol V1.1b3, section 7).
pub(crate) mod exception {
    /// The function is not offered; every write, above all.
    pub(crate) const ILLEGAL_FUNCTION: u8 = 0x01;
    /// There is no such register.
    pub(crate) const ILLEGAL_ADDRESS: u8 = 0x02;
    /// So many registers cannot be read at once.
    pub(crate) const ILLEGAL_VALUE: u8 = 0x03;
    /// The device cannot answer.
    pub(crate) const DEVICE_FAILURE: u8 = 0x04;
    /// Ask again later.
    pub(crate) const BUSY: u8 = 0x06;
    /// The gateway does not serve this unit.
    pub(crate) const NO_PATH: u8 = 0x0A;
    /// The device behind the gateway does not answer.
    pub(crate) const NO_ANSWER: u8 = 0x0B;
}

/// How requests and answers are framed on a byte stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Modbus TCP: a header with transaction id and length.
    Tcp,
    /// Modbus RTU, on a serial line or through TCP: unit first, checksum last, silence between.
    Rtu,
}

/// One request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Transaction id; 0 in RTU, which has none.
    pub(crate) transaction: u16,
    pub(crate) unit: u8,
    /// Function code and what follows it; never empty.
    pdu: Vec<u8>,
}

/// What a request wants, if it is a read of registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Read {
    /// 3 (holding) or 4 (input).
    pub(crate) function: u8,
    pub(crate) address: u16,
    pub(crate) count: u16,
}

impl Request {
    pub(crate) fn function(&self) -> u8 {
        self.pdu[0]
    }

    /// The read it asks for.
    ///
    /// # Errors
    /// The exception code to answer with: whatever is not a read of registers is no function of ours.
    pub(crate) fn read(&self) -> Result<Read, u8> {
        match *self.pdu {
            [function @ (3 | 4), a, b, c, d] => {
                let (address, count) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                let fits = (1..=READ_MAX).contains(&count);
                if fits { Ok(Read { function, address, count }) } else { Err(exception::ILLEGAL_VALUE) }
            }
            [3 | 4, ..] => Err(exception::ILLEGAL_VALUE),
            _ => Err(exception::ILLEGAL_FUNCTION),
        }
    }

    /// The request as it came on an RTU line.
    pub(crate) fn rtu_bytes(&self) -> Vec<u8> {
        checked([&[self.unit], &self.pdu[..]].concat())
    }
}

/// The answer to a request, not yet a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) transaction: u16,
    pub(crate) unit: u8,
    pub(crate) function: u8,
    /// The registers, or an exception code.
    pub(crate) result: Result<Vec<u16>, u8>,
}

impl Answer {
    pub(crate) fn to(request: &Request, result: Result<Vec<u16>, u8>) -> Self {
        Self { transaction: request.transaction, unit: request.unit, function: request.function(), result }
    }

    /// Its bytes on the wire. At most [`READ_MAX`] registers are sent.
    pub(crate) fn frame(&self, framing: Framing) -> Vec<u8> {
        let mut pdu = Vec::with_capacity(PDU_MAX);
        match &self.result {
            Err(code) => pdu.extend([self.function | 0x80, *code]),
            Ok(words) => {
                let words = &words[..words.len().min(usize::from(READ_MAX))];
                pdu.extend([self.function, u8::try_from(words.len() * 2).unwrap_or(u8::MAX)]);
                pdu.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            }
        }
        match framing {
            Framing::Rtu => checked([&[self.unit], &pdu[..]].concat()),
            Framing::Tcp => {
                let length = u16::try_from(pdu.len() + 1).unwrap_or(u16::MAX).to_be_bytes();
                let [high, low] = self.transaction.to_be_bytes();
                [&[high, low, 0, 0, length[0], length[1], self.unit], &pdu[..]].concat()
            }
        }
    }
}

/// `bytes` with their checksum behind them, low byte first.
fn checked(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend(crc(&bytes).to_le_bytes());
    bytes
}

/// CRC-16 of Modbus over serial line V1.02, section 6.2.2.
pub(crate) fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    })
}

/// Requests of one client, one after the other.
#[derive(Debug)]
pub(crate) struct Requests {
    framing: Framing,
    /// How long a client may say nothing.
    idle_max: Duration,
    /// RTU only: what came and is not a request yet.
    pending: Vec<u8>,
}

impl Requests {
    pub(crate) const fn new(framing: Framing, idle_max: Duration) -> Self {
        Self { framing, idle_max, pending: Vec::new() }
    }

    /// The next request.
    ///
    /// # Errors
    /// If the stream ends, is silent for too long, or carries something else than Modbus: close it.
    pub(crate) async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Request> {
        match self.framing {
            Framing::Tcp => self.next_tcp(stream).await,
            Framing::Rtu => self.next_rtu(stream).await,
        }
    }

    async fn next_tcp(&self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Request> {
        let first = timeout(self.idle_max, stream.read_u8()).await??;
        timeout(FRAME_TIME_MAX, rest_of_tcp(first, stream)).await?
    }

    async fn next_rtu(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Request> {
        loop {
            if let Some(request) = self.cut() {
                return Ok(request);
            }
            let mut chunk = [0; RTU_FRAME_MAX];
            let patience = if self.pending.is_empty() { self.idle_max } else { RTU_SILENCE };
            match timeout(patience, stream.read(&mut chunk)).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(count)) => {
                    // Noise without end: keep what can still be a frame.
                    let excess = (self.pending.len() + count).saturating_sub(RTU_FRAME_MAX);
                    self.pending.drain(..excess.min(self.pending.len()));
                    self.pending.extend_from_slice(&chunk[..count]);
                }
                Ok(Err(error)) => return Err(error),
                Err(_) if self.pending.is_empty() => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => {
                    // Silence: what is here is one frame, of a function whose length is not known, or nothing.
                    let bytes = std::mem::take(&mut self.pending);
                    if let Some(request) = rtu_request(&bytes) {
                        return Ok(request);
                    }
                }
            }
        }
    }

    /// The first complete request in what is pending; bytes before it are noise.
    fn cut(&mut self) -> Option<Request> {
        let (end, request) = (0..self.pending.len()).find_map(|start| {
            let rest = self.pending.get(start..)?;
            let length = rtu_length(rest)?;
            Some((start + length, rtu_request(rest.get(..length)?)?))
        })?;
        self.pending.drain(..end);
        Some(request)
    }
}

async fn rest_of_tcp(first: u8, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Request> {
    let mut header = [0; 6];
    stream.read_exact(&mut header).await?;
    let [low, protocol @ .., unit] = header;
    let [p1, p2, l1, l2] = protocol;
    let length = usize::from(u16::from_be_bytes([l1, l2]));
    if (p1, p2) != (0, 0) || !(2..=PDU_MAX + 1).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a Modbus TCP request"));
    }
    let mut pdu = vec![0; length - 1];
    stream.read_exact(&mut pdu).await?;
    Ok(Request { transaction: u16::from_be_bytes([first, low]), unit, pdu })
}

/// Length of the frame that begins with `bytes`; `None` if not known (yet).
fn rtu_length(bytes: &[u8]) -> Option<usize> {
    match *bytes.get(1)? {
        1..=6 => Some(8),
        // Writes of several: a byte count tells.
        0x0F | 0x10 => bytes.get(6).map(|count| 9 + usize::from(*count)),
        _ => None,
    }
}

fn rtu_request(frame: &[u8]) -> Option<Request> {
    let (body, sum) = frame.split_at_checked(frame.len().checked_sub(2)?)?;
    let [unit, pdu @ ..] = body else { return None };
    let whole = !pdu.is_empty() && crc(body).to_le_bytes() == *sum;
    whole.then(|| Request { transaction: 0, unit: *unit, pdu: pdu.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(10);

    async fn requests(framing: Framing, bytes: &[u8]) -> (Vec<Request>, io::ErrorKind) {
        let (mut requests, mut stream) = (Requests::new(framing, IDLE), bytes);
        let mut all = Vec::new();
        loop {
            match requests.next(&mut stream).await {
                Ok(request) => all.push(request),
                Err(error) => return (all, error.kind()),
            }
        }
    }

    #[test]
    fn the_checksum_is_the_standards() {
        // Modbus over serial line V1.02, section 6.2.2: the frame 02 07 has the CRC 41 12.
        assert_eq!(crc(&[0x02, 0x07]).to_le_bytes(), [0x41, 0x12]);
        assert_eq!(crc(b"123456789"), 0x4B37, "the check value of CRC-16/MODBUS");
    }

    #[tokio::test]
    async fn a_tcp_request_is_read_and_what_is_no_modbus_ends_the_connection() {
        let good = [0x12, 0x34, 0, 0, 0, 6, 9, 4, 0, 0x48, 0, 4];
        let (all, end) = requests(Framing::Tcp, &[good, good].concat()).await;
        assert_eq!((all.len(), end), (2, io::ErrorKind::UnexpectedEof));
        assert_eq!((all[0].transaction, all[0].unit), (0x1234, 9));
        assert_eq!(all[0].read(), Ok(Read { function: 4, address: 0x48, count: 4 }));
        for bad in [
            *b"GET / HTTP/1",
            [0, 1, 0, 0, 0, 1, 9, 4, 0, 0, 0, 4],
            [0, 1, 0, 0, 0xFF, 0xFF, 9, 4, 0, 0, 0, 4],
        ] {
            let (all, end) = requests(Framing::Tcp, &bad).await;
            assert_eq!((all.len(), end), (0, io::ErrorKind::InvalidData), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn rtu_requests_are_found_between_noise_and_damage() {
        let frame = checked(vec![1, 3, 0, 0x10, 0, 2]);
        let mut damaged = frame.clone();
        damaged[4] ^= 0x40;
        let write = checked(vec![1, 0x10, 0, 1, 0, 1, 2, 0xAB, 0xCD]);
        let stream = [&[0xFF, 0x00][..], &frame, &damaged, &frame, &write].concat();
        let (all, _) = requests(Framing::Rtu, &stream).await;
        let reads: Vec<_> = all.iter().map(Request::read).collect();
        let read = Ok(Read { function: 3, address: 0x10, count: 2 });
        assert_eq!(reads, [read, read, Err(exception::ILLEGAL_FUNCTION)]);
        assert_eq!(all[0].rtu_bytes(), frame);
    }

    #[tokio::test]
    async fn an_unknown_function_on_a_line_is_a_request_once_the_line_is_silent() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let mut requests = Requests::new(Framing::Rtu, IDLE);
        tokio::io::AsyncWriteExt::write_all(&mut far, &checked(vec![1, 0x2B, 0x0E, 1, 0])).await.unwrap();
        let request = requests.next(&mut near).await.unwrap();
        assert_eq!((request.function(), request.read()), (0x2B, Err(exception::ILLEGAL_FUNCTION)));
    }

    #[test]
    fn only_reads_of_1_to_125_registers_are_reads() {
        let of = |pdu: &[u8]| Request { transaction: 0, unit: 1, pdu: pdu.to_vec() }.read();
        assert_eq!(of(&[3, 0, 0, 0, 0]), Err(exception::ILLEGAL_VALUE));
        assert_eq!(of(&[3, 0, 0, 0, 126]), Err(exception::ILLEGAL_VALUE));
        assert_eq!(of(&[4, 0, 0, 0]), Err(exception::ILLEGAL_VALUE));
        assert!(of(&[4, 0, 0, 0, 125]).is_ok());
        for function in [0, 1, 2, 5, 6, 15, 16, 22, 23, 43, 0x83] {
            assert_eq!(of(&[function, 0, 0, 0, 1]), Err(exception::ILLEGAL_FUNCTION), "{function}");
        }
    }

    #[test]
    fn answers_have_the_frames_of_the_standard() {
        let request = Request { transaction: 7, unit: 9, pdu: vec![3, 0, 0x6B, 0, 2] };
        let answer = Answer::to(&request, Ok(vec![0x022B, 0x0064]));
        assert_eq!(answer.frame(Framing::Tcp), [0, 7, 0, 0, 0, 7, 9, 3, 4, 0x02, 0x2B, 0, 0x64]);
        let refusal = Answer::to(&request, Err(exception::ILLEGAL_ADDRESS));
        assert_eq!(refusal.frame(Framing::Tcp), [0, 7, 0, 0, 0, 3, 9, 0x83, 2]);
        let line = answer.frame(Framing::Rtu);
        assert_eq!(
            (&line[..7], crc(&line)),
            (&[9, 3, 4, 0x02, 0x2B, 0, 0x64][..], 0),
            "a frame's own CRC is 0"
        );
    }
}
