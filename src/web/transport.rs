//! How the HTTP client connects when everything is to go out from one address: `ureq` cannot say from
//! where, so the socket is ours.
//!
//! Layer: hands. Runs on the thread of whoever calls.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, LazyBuffers, NextTimeout,
    ShutdownHandle, Transport,
};

use crate::dial::Dialler;

/// How long a connection may take where nobody says.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects from the user's address; without one, or where a proxy carries it, as `ureq` does.
#[derive(Debug, Default)]
pub struct Way {
    pub dialler: Dialler,
    pub usual: DefaultConnector,
    #[cfg(feature = "tls")]
    pub tls: ureq::unversioned::transport::RustlsConnector,
}

impl Connector<()> for Way {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        if self.dialler.from().is_none() || details.config.proxy().is_some() {
            return self.usual.connect(details, chained);
        }
        let stream = Arc::new(self.dial(details)?);
        let handle: Weak<dyn ShutdownHandle> = Arc::downgrade(&stream) as _;
        (details.register_shutdown)(handle)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        let plain: Box<dyn Transport> = Box::new(Plain { stream, buffers });
        #[cfg(feature = "tls")]
        return Ok(self.tls.connect(details, Some(plain))?.map(|secure| Box::new(secure) as _));
        #[cfg(not(feature = "tls"))]
        Ok(Some(plain))
    }
}

impl Way {
    /// The first of the addresses that can be reached; they share the time.
    fn dial(&self, details: &ConnectionDetails) -> Result<TcpStream, Error> {
        let whole = details.timeout.not_zero().map_or(CONNECT_TIMEOUT, |time| *time);
        let each = whole / details.addrs.len().max(1) as u32;
        let mut failed = Error::HostNotFound;
        for &addr in details.addrs.iter() {
            let connect = |socket| self.dialler.connect(&socket, addr, each).map(|()| socket);
            match self.dialler.socket(addr).and_then(connect) {
                Ok(socket) => {
                    let stream = TcpStream::from(socket);
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(err) if err.kind() == ErrorKind::TimedOut => {
                    failed = Error::Timeout(ureq::Timeout::Connect);
                }
                Err(err) => failed = Error::Io(err),
            }
        }
        Err(failed)
    }
}

/// A connection without TLS.
#[derive(Debug)]
struct Plain {
    stream: Arc<TcpStream>,
    buffers: LazyBuffers,
}

impl Transport for Plain {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(left(timeout)?)?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        (&*self.stream).write_all(output).map_err(|err| in_time(err, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(left(timeout)?)?;
        let amount = loop {
            match (&*self.stream).read(self.buffers.input_append_buf()) {
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                read => break read.map_err(|err| in_time(err, timeout))?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(0 < amount)
    }

    /// Whether the server is silent, as it is between two answers.
    fn is_open(&mut self) -> bool {
        let quiet = self.stream.set_nonblocking(true).is_ok()
            && matches!(self.stream.peek(&mut [0]), Err(err) if err.kind() == ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).is_ok() && quiet
    }
}

/// The time that is left: none at all is over, and `None` is no limit.
fn left(timeout: NextTimeout) -> Result<Option<Duration>, Error> {
    match timeout.not_zero().map(|time| *time) {
        Some(left) if left.is_zero() => Err(Error::Timeout(timeout.reason)),
        left => Ok(left),
    }
}

fn in_time(err: io::Error, timeout: NextTimeout) -> Error {
    match err.kind() {
        // A time-out of a read is the first on some systems, and the second on others.
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(err),
    }
}
