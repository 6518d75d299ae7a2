//! Frames of the direct and sync protocols: a length of four bytes (big endian), then as many bytes.
//!
//! The length is compared with the protocol's limit before anything is allocated, and memory then grows with what
//! really arrives: a peer that announces much and sends nothing costs nothing.

use std::io;
use std::sync::Arc;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response;

use super::limits::{DIRECT_BYTES_MAX, FRAME_MESSAGES_MAX};
use super::shared::Shared;

/// Bytes of a length.
const PREFIX: usize = 4;

/// Longest frame of the direct protocol: one longest message with its length.
pub(super) const DIRECT_FRAME_MAX: usize = DIRECT_BYTES_MAX + PREFIX;

/// First allocation for a frame; more comes as bytes arrive.
const FIRST_READ: usize = 16 * 1024;

/// Reads and writes frames up to the limits of one protocol.
#[derive(Clone)]
pub(super) struct FrameCodec {
    pub(super) request_max: usize,
    pub(super) response_max: usize,
    /// Where refused frames are counted: libp2p reports no event for a request that could not be read.
    pub(super) shared: Arc<Shared>,
}

impl FrameCodec {
    async fn read<T: AsyncRead + Unpin>(&self, io: &mut T, max: usize) -> io::Result<Vec<u8>> {
        let frame = read_frame(io, max).await;
        if frame.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
            self.shared.count(|it| &it.malformed);
        }
        frame
    }
}

impl request_response::Codec for FrameCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        self.read(io, self.request_max).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        self.read(io, self.response_max).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, frame: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, &frame, self.request_max).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, frame: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, &frame, self.response_max).await
    }
}

async fn read_frame<T: AsyncRead + Unpin>(io: &mut T, max: usize) -> io::Result<Vec<u8>> {
    let mut prefix = [0; PREFIX];
    io.read_exact(&mut prefix).await?;
    let length = u32::from_be_bytes(prefix) as usize;
    if length > max {
        return Err(too_long(length, max));
    }
    let mut frame = Vec::with_capacity(length.min(FIRST_READ));
    io.take(length as u64).read_to_end(&mut frame).await?;
    if frame.len() < length {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "stream ended within a frame"));
    }
    Ok(frame)
}

async fn write_frame<T: AsyncWrite + Unpin>(io: &mut T, frame: &[u8], max: usize) -> io::Result<()> {
    let length = u32::try_from(frame.len()).ok().filter(|_| frame.len() <= max);
    let length = length.ok_or_else(|| too_long(frame.len(), max))?;
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(frame).await
}

fn too_long(length: usize, max: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("frame of {length} bytes is over the limit of {max}"))
}

/// Appends one message to a direct frame.
pub(super) fn append(frame: &mut Vec<u8>, message: &[u8]) {
    // A message is at most DIRECT_BYTES_MAX long, which fits four bytes.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
}

/// Bytes that `message` takes in a direct frame.
pub(super) fn framed_len(message: &[u8]) -> usize {
    message.len().saturating_add(PREFIX)
}

/// The messages of a direct frame; `None` if it is not made of whole, non-empty messages or holds too many.
/// The empty frame is a probe.
pub(super) fn split(mut frame: &[u8]) -> Option<Vec<&[u8]>> {
    let mut messages = Vec::new();
    while let Some((prefix, rest)) = frame.split_first_chunk::<PREFIX>() {
        let length = u32::from_be_bytes(*prefix) as usize;
        if length == 0 || messages.len() == FRAME_MESSAGES_MAX {
            return None;
        }
        let (message, rest) = rest.split_at_checked(length)?;
        messages.push(message);
        frame = rest;
    }
    frame.is_empty().then_some(messages)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::super::limits::RESPONSE_BYTES_MAX as RESPONSE;
    use super::*;

    /// Yields its bytes, and counts how many were asked for after them.
    struct Source {
        bytes: Vec<u8>,
        position: usize,
        reads_after_end: usize,
    }

    impl AsyncRead for Source {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let position = self.position;
            let left = &self.bytes[position..];
            let taken = left.len().min(into.len());
            into[..taken].copy_from_slice(&left[..taken]);
            self.position += taken;
            if taken == 0 {
                self.reads_after_end += 1;
            }
            Poll::Ready(Ok(taken))
        }
    }

    async fn read(bytes: Vec<u8>, max: usize) -> (io::Result<Vec<u8>>, usize) {
        let mut source = Source { bytes, position: 0, reads_after_end: 0 };
        let result = read_frame(&mut source, max).await;
        (result, source.reads_after_end)
    }

    #[tokio::test]
    async fn a_frame_comes_back_as_it_was_written() {
        for length in [0, 1, FIRST_READ - 1, FIRST_READ, 300_000] {
            let frame: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut wire = Vec::new();
            write_frame(&mut wire, &frame, 300_000).await.unwrap();
            assert_eq!(read(wire, 300_000).await.0.unwrap(), frame);
        }
    }

    #[tokio::test]
    async fn an_announced_length_over_the_limit_is_refused_before_anything_is_read() {
        for (length, max) in [(u32::MAX, RESPONSE), (101, 100)] {
            let (result, reads_after_end) = read(length.to_be_bytes().to_vec(), max).await;
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert_eq!(reads_after_end, 0, "refused by the length alone");
        }
    }
    #[tokio::test]
    async fn an_announced_length_that_never_comes_is_an_error() {
        let (result, _) = read(u32::try_from(RESPONSE).unwrap().to_be_bytes().to_vec(), RESPONSE).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_frame_over_the_limit_is_not_written() {
        let mut wire = Vec::new();
        assert!(write_frame(&mut wire, &[0; 101], 100).await.is_err());
        assert!(wire.is_empty());
    }

    #[test]
    fn messages_of_a_frame_come_back_in_order() {
        let mut frame = Vec::new();
        append(&mut frame, b"first");
        append(&mut frame, b"second");
        assert_eq!(frame.len(), framed_len(b"first") + framed_len(b"second"));
        assert_eq!(split(&frame), Some(vec![&b"first"[..], b"second"]));
        assert_eq!(split(&[]), Some(vec![]));
    }

    #[test]
    fn damaged_frames_are_refused_whole() {
        let mut frame = Vec::new();
        append(&mut frame, b"message");
        for cut in 1..frame.len() {
            assert_eq!(split(&frame[..cut]), None, "cut at {cut}");
        }
        assert_eq!(split(&[0; 4]), None, "an empty message");
        assert_eq!(split(&[0xff; 64]), None, "a length beyond the frame");
        let crowded: Vec<u8> = [0, 0, 0, 1, 7].repeat(FRAME_MESSAGES_MAX + 1);
        assert_eq!(split(&crowded), None, "too many messages");
    }
}
