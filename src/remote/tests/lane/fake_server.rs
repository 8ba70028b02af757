//! A server that says what a test wants, and notes what it is told.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use flexcache_remote::{Address, Decoder, Settings, Value};

pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    decoder: Decoder,
}

impl Peer {
    /// The next command; None once the other side has closed.
    pub(crate) fn command(&mut self) -> Option<Vec<String>> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(Value::Array(parts)) = self.decoder.next().unwrap() {
                let text = |part| match part {
                    Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                    other => panic!("{other:?}"),
                };
                return Some(parts.into_iter().map(text).collect());
            }
            let count = self.stream.read(&mut buffer).unwrap_or(0);
            if count == 0 {
                return None;
            }
            self.decoder.feed(&buffer[..count]).unwrap();
        }
    }

    pub(crate) fn say(&mut self, bytes: &str) {
        // The other side may be gone.
        let _ = self.stream.write_all(bytes.as_bytes());
    }

    /// Answers what is said at the beginning of a connection.
    pub(crate) fn greet(&mut self, commands: usize) -> Vec<String> {
        let said: Vec<_> =
            (0..commands).filter_map(|_| self.command()).map(|parts| parts.join(" ")).collect();
        self.say("%1\r\n+proto\r\n:3\r\n");
        for _ in 1..commands {
            self.say("+OK\r\n");
        }
        said
    }
}

/// A server whose connections are handled one after another by `serve`, which gets the number of each.
pub(crate) fn start(serve: impl Fn(usize, Peer) + Send + 'static) -> Settings {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            serve(number, Peer { stream: stream.unwrap(), decoder: Decoder::new() });
        }
    });
    Settings::new(Address::Tcp("127.0.0.1".to_owned(), port), Duration::from_secs(5))
}

/// The same, with what it was told.
pub(crate) fn start_noting<T: Send + 'static>(
    serve: impl Fn(usize, Peer, &std::sync::mpsc::Sender<T>) + Send + 'static,
) -> (Settings, Receiver<T>) {
    let (sender, receiver) = channel();
    (start(move |number, peer| serve(number, peer, &sender)), receiver)
}
