//! What is said on a new connection before anybody uses it.

use std::time::{Duration, Instant};

use crate::connection::Sink;
use crate::decode::Decoder;
use crate::encode::Request;
use crate::error::{Error, Kind};
use crate::stream::{Address, Stream, is_timeout, left};
use crate::value::Value;

/// How to connect.
#[derive(Clone)]
pub struct Settings {
    /// Where the server is.
    pub address: Address,
    /// How long it may take to connect, and to write one part of a request.
    pub timeout: Duration,
    /// Who we are; None for the user "default" where there is a password.
    pub username: Option<String>,
    /// The password; None for none.
    pub password: Option<String>,
    /// The number of the database.
    pub database: u32,
    /// What the connection is called in `CLIENT LIST`, unless the server refuses that.
    pub name: Option<String>,
    /// What the keys begin with whose writes the server pushes. None are pushed where it is empty.
    pub prefixes: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Settings {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Settings {
    /// Settings without a password, for database 0.
    #[must_use]
    pub fn new(address: Address, timeout: Duration) -> Self {
        Self {
            address,
            timeout,
            username: None,
            password: None,
            database: 0,
            name: None,
            prefixes: Vec::new(),
        }
    }

    fn commands(&self) -> Vec<(&'static str, Request)> {
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = &self.password {
            hello.extend([
                b"AUTH",
                self.username.as_deref().unwrap_or("default").as_bytes(),
                password.as_bytes(),
            ]);
        }
        let mut commands = vec![("HELLO", Request::command(hello))];
        if let Some(name) = &self.name {
            let parts = [b"CLIENT".as_slice(), b"SETNAME", name.as_bytes()];
            commands.push(("CLIENT SETNAME", Request::command(parts)));
        }
        if self.database != 0 {
            let number = self.database.to_string();
            commands.push(("SELECT", Request::command([b"SELECT".as_slice(), number.as_bytes()])));
        }
        if !self.prefixes.is_empty() {
            let mut parts: Vec<&[u8]> = vec![b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"NOLOOP"];
            for prefix in &self.prefixes {
                parts.extend([b"PREFIX", prefix.as_slice()]);
            }
            commands.push(("CLIENT TRACKING", Request::command(parts)));
        }
        commands
    }
}

/// Connects and authenticates.
pub(crate) fn open(settings: &Settings, sink: &dyn Sink) -> Result<(Stream, Decoder), Error> {
    let until = Instant::now() + settings.timeout;
    let failed = |error: std::io::Error| {
        let kind = if is_timeout(&error) { Kind::TimedOut } else { Kind::Lost };
        Error::not_sent(kind, format!("no connection to the server: {error}"))
    };
    let stream = Stream::open(&settings.address, until).map_err(failed)?;
    let mut decoder = Decoder::new();
    let commands = settings.commands();
    let bytes: Vec<u8> = commands.iter().flat_map(|(_, request)| &request.bytes).copied().collect();
    stream.set_timeouts(None, Some(settings.timeout)).map_err(failed)?;
    stream.write_all(&bytes, until).map_err(failed)?;
    for (what, _) in commands {
        let Value::Error(text) = reply(&stream, &mut decoder, until, sink).map_err(failed)? else { continue };
        if what != "CLIENT SETNAME" {
            let text = String::from_utf8_lossy(&text).into_owned();
            return Err(Error::not_sent(Kind::Refused, text));
        }
    }
    stream.set_timeouts(None, Some(settings.timeout)).map_err(failed)?;
    Ok((stream, decoder))
}

fn reply(stream: &Stream, decoder: &mut Decoder, until: Instant, sink: &dyn Sink) -> std::io::Result<Value> {
    let mut buffer = [0; 4096];
    loop {
        match decoder.next().map_err(std::io::Error::other)? {
            Some(Value::Push(parts)) => sink.pushed(&parts),
            Some(value) => return Ok(value),
            None => {
                let Some(left) = left(until) else { return Err(std::io::ErrorKind::TimedOut.into()) };
                stream.set_timeouts(Some(left), Some(left))?;
                let count = stream.read(&mut buffer)?;
                if count == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                decoder.feed(&buffer[..count]).map_err(std::io::Error::other)?;
            }
        }
    }
}
