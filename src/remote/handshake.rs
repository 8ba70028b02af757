//! The handshake on a new connection, before anybody uses it.

use std::time::{Duration, Instant};

use crate::decode::Decoder;
use crate::encode::Request;
use crate::error::{Error, Kind};
use crate::stream::{Address, Stream, is_timeout, left};
use crate::value::Value;

/// The text after which a server repeats the arguments of a command that it does not know.
const REPEATED: &str = ", with args beginning with";

/// How to connect.
#[derive(Clone)]
pub struct Settings {
    /// The address of the server.
    pub address: Address,
    /// How long it may take to connect, and to write one part of a request.
    pub timeout: Duration,
    /// The user name; with a password, `None` means the user "default".
    pub username: Option<String>,
    /// The password; None for none.
    pub password: Option<String>,
    /// The number of the database.
    pub database: u32,
    /// The name of the connection in `CLIENT LIST`. A server may refuse it.
    pub name: Option<String>,
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
        Self { address, timeout, username: None, password: None, database: 0, name: None }
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
        commands
    }

    /// The reason of the server's refusal, without the arguments that it repeats: a server that does not know
    /// `HELLO` repeats its arguments, and the password is among them.
    fn refusal(&self, text: &[u8]) -> String {
        let text = String::from_utf8_lossy(text);
        let own = text.split_once(REPEATED).map_or(&*text, |(own, _)| own);
        match self.password.as_deref() {
            Some(password) if !password.is_empty() => own.replace(password, "***"),
            _ => own.to_owned(),
        }
    }
}

/// Connects and authenticates.
pub(crate) fn open(settings: &Settings) -> Result<(Stream, Decoder), Error> {
    let until = Instant::now() + settings.timeout;
    let failed = |error: std::io::Error| {
        let kind = if is_timeout(&error) { Kind::TimedOut } else { Kind::Lost };
        Error::not_sent(kind, format!("no connection to the server at {}: {error}", settings.address))
    };
    let stream = Stream::open(&settings.address, until).map_err(failed)?;
    let mut decoder = Decoder::new();
    let commands = settings.commands();
    let bytes: Vec<u8> = commands.iter().flat_map(|(_, request)| &request.bytes).copied().collect();
    stream.set_timeouts(None, Some(settings.timeout)).map_err(failed)?;
    stream.write_all(&bytes, until).1.map_err(failed)?;
    for (what, _) in commands {
        let Value::Error(text) = reply(&stream, &mut decoder, until).map_err(failed)? else { continue };
        if what != "CLIENT SETNAME" {
            return Err(Error::not_sent(Kind::Refused, settings.refusal(&text)));
        }
    }
    stream.set_timeouts(None, Some(settings.timeout)).map_err(failed)?;
    Ok((stream, decoder))
}

fn reply(stream: &Stream, decoder: &mut Decoder, until: Instant) -> std::io::Result<Value> {
    let mut buffer = [0; 4096];
    loop {
        match decoder.next().map_err(std::io::Error::other)? {
            Some(Value::Push(_)) => {}
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
