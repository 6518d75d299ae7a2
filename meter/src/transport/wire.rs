//! A tap on the byte stream: what was written last, and what came since.
//!
//! The Modbus client owns one handle of the wire, its link the other. The second sees what the first does not tell:
//! bytes that nobody asked for, bytes after an answer, the echo of a question, noise.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::Port;

/// Bytes remembered of one answer: the longest RTU frame has 256, the longest TCP frame 260.
const HEARD_MAX: usize = 512;
/// Stray bytes before an answer that a line driver makes when it turns round; more of them is another message.
const TURNAROUND_BYTES_MAX: usize = 3;

/// What came back instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Not one byte.
    Nothing,
    /// The question itself, alone or before something else.
    Echo,
    /// The beginning of a fitting answer.
    Cut,
    /// This many bytes that mean nothing.
    Noise(usize),
}

/// A handle of the wire. Clones are the same wire.
#[derive(Debug, Clone)]
pub(crate) struct Wire(Arc<Mutex<Tapped>>);

#[derive(Debug)]
struct Tapped {
    port: Port,
    /// The last question.
    written: Vec<u8>,
    /// The first bytes since, and how many in all.
    heard: Vec<u8>,
    count: usize,
}

impl Wire {
    pub(crate) fn new(port: Port) -> Self {
        Self(Arc::new(Mutex::new(Tapped { port, written: Vec::new(), heard: Vec::new(), count: 0 })))
    }

    fn tapped(&self) -> MutexGuard<'_, Tapped> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what lies in the input without waiting for more: how many bytes nobody asked for.
    ///
    /// # Errors
    /// What the system says of a connection that ended; [`io::ErrorKind::UnexpectedEof`] if the other side closed it.
    pub(crate) fn take_unasked(&self) -> io::Result<usize> {
        let mut taken = 0;
        let mut room = [0; HEARD_MAX];
        loop {
            let mut buf = ReadBuf::new(&mut room);
            let mut tapped = self.tapped();
            let port = pin!(&mut tapped.port);
            match port.poll_read(&mut Context::from_waker(Waker::noop()), &mut buf) {
                Poll::Pending => return Ok(taken),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(())) if buf.filled().is_empty() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Poll::Ready(Ok(())) => taken += buf.filled().len(),
            }
        }
    }

    /// Discards input until nothing came for `quiet`, for at most `longest`: true if it became quiet.
    pub(crate) async fn discard_until_quiet(
        &mut self,
        quiet: Duration,
        longest: Duration,
    ) -> io::Result<bool> {
        let (began, mut room) = (Instant::now(), [0; HEARD_MAX]);
        while began.elapsed() <= longest {
            match timeout(quiet, self.read(&mut room)).await {
                Err(_) => return Ok(true),
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Forgets what was written and heard: a new question begins.
    pub(crate) fn listen_anew(&self) {
        let mut tapped = self.tapped();
        tapped.written.clear();
        tapped.heard.clear();
        tapped.count = 0;
    }

    /// True if what came since the question is one RTU frame of `length` bytes that begins with `unit` and `function`,
    /// nothing after it and at most a few stray bytes before.
    pub(crate) fn heard_exactly(&self, unit: u8, function: u8, length: usize) -> bool {
        let tapped = self.tapped();
        let Some(stray) = tapped.count.checked_sub(length) else { return false };
        stray <= TURNAROUND_BYTES_MAX
            && tapped.heard.get(stray..).is_some_and(|frame| frame.starts_with(&[unit, function]))
    }

    /// What came instead of the answer of `unit` to `function`.
    pub(crate) fn heard(&self, rtu: bool, unit: u8, function: u8) -> Heard {
        let Tapped { written, heard, count, .. } = &*self.tapped();
        let begins_right = if rtu {
            heard.starts_with(&[unit, function]) || heard.as_slice() == [unit]
        } else {
            // The transaction id is ours, the protocol is Modbus.
            heard.iter().zip(written).take(4).all(|(heard, written)| heard == written)
        };
        match *count {
            0 => Heard::Nothing,
            _ if rtu && !written.is_empty() && heard.starts_with(written) => Heard::Echo,
            _ if begins_right => Heard::Cut,
            bytes => Heard::Noise(bytes),
        }
    }
}

impl Tapped {
    fn note(&mut self, bytes: &[u8]) {
        self.count = self.count.saturating_add(bytes.len());
        let room = HEARD_MAX.saturating_sub(self.heard.len());
        self.heard.extend(bytes.iter().take(room));
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut tapped = self.tapped();
        let before = buf.filled().len();
        let polled = pin!(&mut tapped.port).poll_read(cx, buf);
        if let Some(bytes) = buf.filled().get(before..) {
            tapped.note(bytes);
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut tapped = self.tapped();
        let polled = pin!(&mut tapped.port).poll_write(cx, buf);
        if let Poll::Ready(Ok(sent)) = polled {
            let room = HEARD_MAX.saturating_sub(tapped.written.len());
            tapped.written.extend(buf.iter().take(sent.min(room)));
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.tapped().port).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.tapped().port).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    async fn wire() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Wire::new(Port::Tcp(near)), listener.accept().await.unwrap().0)
    }

    /// What is heard when `question` was written and `answer` came.
    async fn heard(rtu: bool, question: &[u8], answer: &[u8]) -> (Heard, Wire) {
        let (mut wire, mut far) = wire().await;
        wire.write_all(question).await.unwrap();
        far.write_all(answer).await.unwrap();
        let mut room = vec![0; answer.len()];
        wire.read_exact(&mut room).await.unwrap();
        (wire.heard(rtu, 7, 4), wire)
    }

    const QUESTION: [u8; 8] = [7, 4, 0, 0x48, 0, 4, 0x70, 0x79];

    #[tokio::test]
    async fn nothing_echo_cut_answer_and_noise_are_told_apart() {
        let rtu = async |answer: &[u8]| heard(true, &QUESTION, answer).await.0;
        assert_eq!(rtu(&[]).await, Heard::Nothing);
        assert_eq!(rtu(&QUESTION).await, Heard::Echo);
        assert_eq!(rtu(&[&QUESTION[..], &[7, 4, 8]].concat()).await, Heard::Echo);
        assert_eq!(rtu(&[7, 4, 8, 1, 2]).await, Heard::Cut);
        assert_eq!(rtu(&[7]).await, Heard::Cut);
        assert_eq!(rtu(&[0xF8, 0x00, 0xE6]).await, Heard::Noise(3));
        assert_eq!(rtu(&[0x55; 700]).await, Heard::Noise(700));
        let tcp =
            async |answer: &[u8]| heard(false, &[0, 9, 0, 0, 0, 6, 7, 4, 0, 0x48, 0, 4], answer).await.0;
        assert_eq!(tcp(b"HTTP/1.1 400").await, Heard::Noise(12));
        assert_eq!(tcp(&[0, 9, 0, 0, 0, 11, 7]).await, Heard::Cut);
        assert_eq!(tcp(&[7, 4, 8, 1]).await, Heard::Noise(4));
    }

    #[tokio::test]
    async fn only_one_frame_and_nothing_after_it_is_an_answer() {
        let frame = [7, 4, 2, 0, 1, 0xF1, 0x31];
        let exact = async |answer: &[u8]| {
            let (_, wire) = heard(true, &QUESTION, answer).await;
            wire.heard_exactly(7, 4, frame.len())
        };
        assert!(exact(&frame).await && exact(&[&[0, 0][..], &frame].concat()).await);
        assert!(!exact(&[&[0; 4][..], &frame].concat()).await, "the tail of another message");
        assert!(!exact(&[&frame[..], &[7]].concat()).await, "the head of another message");
        assert!(!exact(&frame[..6]).await);
    }

    #[tokio::test]
    async fn what_nobody_asked_for_is_taken_out_and_a_closed_connection_is_noticed_without_asking() {
        let (mut wire, mut far) = wire().await;
        assert_eq!(wire.take_unasked().unwrap(), 0);
        far.write_all(&[1, 2, 3]).await.unwrap();
        assert!(wire.discard_until_quiet(Duration::from_millis(100), Duration::from_secs(60)).await.unwrap());
        far.write_all(&[4, 5]).await.unwrap();
        let mut taken = 0;
        while taken < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            taken += wire.take_unasked().unwrap();
        }
        drop(far);
        let closed = async {
            while wire.take_unasked().is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), closed).await.expect("the end of the connection shows");
    }

    #[tokio::test]
    async fn a_line_that_never_falls_quiet_is_given_up() {
        let (mut wire, mut far) = wire().await;
        let noise = tokio::spawn(async move { while far.write_all(&[0xFF; 16]).await.is_ok() {} });
        assert!(
            !wire.discard_until_quiet(Duration::from_millis(500), Duration::from_millis(50)).await.unwrap()
        );
        noise.abort();
    }
}
