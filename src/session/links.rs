//! The connections: a socket, a reader and a writer for each, and the way to their ends.
//!
//! Layer: head. Owned by the session's loop. Keeps a third handle of every socket, so that it can
//! be shut at any time: a thread that waits in `connect`, `read` or `write` then returns at once.
//!
//! The two channels of a connection are bounded by their only sender, which looks before it sends:
//! a channel with places of its own takes the memory of all of them at once, 170 KiB for a peer that
//! may never say a word.

use std::collections::{HashMap, VecDeque};
use std::net::{Shutdown, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, Scope};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use socket2::Socket;

use super::Options;
use crate::dial::Dialler;
use crate::event::{Event, TASKS_MAX};
use crate::geometry::Span;
use crate::limit::Limit;
use crate::peer::reader::{Outlets, Reader};
use crate::peer::writer::{Haves, Portion, Task, Writer};
use crate::peer::{Context, Link};
use crate::picker::ConnId;
use crate::storage::Reading;
use crate::swarm::{End, Fact};

/// A reader's and a writer's stack. The main thread's would be 8 MiB of address space for each of
/// two hundred threads; this is far more than they touch.
const STACK_LEN: usize = 256 * 1024;

/// Dropped, it ends all connections.
pub struct Links<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    context: Context,
    outlets: Outlets,
    supplies: Supplies,
    open: HashMap<ConnId, Open>,
}

/// What the threads of a connection are given beside its socket.
pub struct Supplies {
    /// Cloned for each writer; `None` until the metadata is here.
    pub storage: Option<Reading>,
    pub download_limit: Limit,
    pub upload_limit: Limit,
    pub dialler: Dialler,
}

impl Supplies {
    pub fn new(options: &Options) -> Supplies {
        Supplies {
            storage: None,
            download_limit: options.download_limit.clone(),
            upload_limit: options.upload_limit.clone(),
            dialler: options.dialler(),
        }
    }
}

/// Dropped, it is hung up on: both of its threads end.
struct Open {
    socket: Socket,
    context: Context,
    addr: SocketAddr,
    /// Both ends of the list of what was asked for, until the writer takes its own.
    asked: Option<Sender<Span>>,
    /// To the writer, once there is one.
    tasks: Option<Sender<Task>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl<'scope, 'env> Links<'scope, 'env> {
    pub fn new(
        scope: &'scope Scope<'scope, 'env>,
        context: Context,
        outlets: Outlets,
        supplies: Supplies,
    ) -> Links<'scope, 'env> {
        Links { scope, context, outlets, supplies, open: HashMap::new() }
    }

    /// The torrent is known: this is what connections begin with from now on, and where verified
    /// pieces are read from.
    pub fn know(&mut self, context: Context, storage: Reading) {
        self.context = context;
        let conns: Vec<ConnId> = self.open.keys().copied().collect();
        conns
            .into_iter()
            .for_each(|conn| self.tell(conn, Task::Storage(Box::new(storage.clone()))));
        self.supplies.storage = Some(storage);
    }

    /// Where readers, and web seeds, hand in what they get.
    pub fn outlets(&self) -> &Outlets {
        &self.outlets
    }

    /// Starts to dial an address. An error is reported like one of the dial itself.
    pub fn dial(&mut self, conn: ConnId, addr: SocketAddr) -> Result<(), Fact> {
        let socket = self.supplies.dialler.socket(addr);
        let link = Link { conn, addr, incoming: false };
        socket.and_then(|socket| self.start(link, socket)).map_err(|err| {
            let end = End::Lost(format!("dial: {err}"));
            Fact::Gone { conn, end }
        })
    }

    /// Takes a connection that somebody dialled.
    pub fn accept(&mut self, conn: ConnId, addr: SocketAddr, socket: Socket) -> Result<(), Fact> {
        let link = Link { conn, addr, incoming: true };
        self.start(link, socket).map_err(|err| {
            let end = End::Lost(format!("accept: {err}"));
            Fact::Gone { conn, end }
        })
    }

    fn start(&mut self, link: Link, socket: Socket) -> std::io::Result<()> {
        let conn = link.conn;
        let context = Context { trace: self.context.trace.of_peer(&link), ..self.context };
        let handle = socket.try_clone()?;
        // The writer keeps it below `ASKED_MAX`.
        let (asked_in, asked) = unbounded();
        let outlets = self.outlets.clone();
        let limit = self.supplies.download_limit.clone();
        let dialler = self.supplies.dialler.clone();
        let reader = Reader { context, link, socket, outlets, asked, limit, dialler };
        let events = self.outlets.events.clone();
        self.spawn(format!("reader {conn}"), move || {
            // A mistake of ours in one peer's thread ends that peer, and nothing else.
            if catch_unwind(AssertUnwindSafe(|| reader.run())).is_err() {
                let end = End::Lost("our thread for it panicked".to_owned());
                let _ = events.send(Event::Fact(Fact::Gone { conn, end }));
            }
        })?;
        self.open.insert(
            conn,
            Open { socket: handle, context, addr: link.addr, asked: Some(asked_in), tasks: None },
        );
        Ok(())
    }

    /// The handshake is done: from now on there is something to say.
    pub fn start_writer(&mut self, conn: ConnId) {
        let Some(open) = self.open.get_mut(&conn) else { return };
        let (Ok(socket), Some(asked)) = (open.socket.try_clone(), open.asked.take()) else {
            return self.hang_up(conn);
        };
        let (tasks_in, tasks) = unbounded();
        open.tasks = Some(tasks_in);
        let writer = Writer {
            context: open.context,
            conn,
            socket: socket.into(),
            tasks,
            asked,
            events: self.outlets.events.clone(),
            storage: self.supplies.storage.clone(),
            limit: self.supplies.upload_limit.clone(),
            queue: VecDeque::new(),
            haves: Haves::default(),
            portion: Portion::default(),
            granted: 0,
        };
        // A panic ends this peer: the socket is shut with the writer, and its reader reports that.
        let body = move || drop(catch_unwind(AssertUnwindSafe(|| writer.run())));
        if self.spawn(format!("writer {conn}"), body).is_err() {
            self.hang_up(conn);
        }
    }

    fn spawn(&self, name: String, body: impl FnOnce() + Send + 'scope) -> std::io::Result<()> {
        let builder = Builder::new().name(name).stack_size(STACK_LEN);
        builder.spawn_scoped(self.scope, body).map(drop)
    }

    /// Hands a task to a writer. One that does not take it has a peer that does not read: its
    /// socket is shut, and the reader will report the end.
    pub fn tell(&mut self, conn: ConnId, task: Task) {
        let Some(open) = self.open.get(&conn) else { return };
        let Some(tasks) = &open.tasks else { return };
        if TASKS_MAX <= tasks.len() {
            let _ = open.socket.shutdown(Shutdown::Both);
            return;
        }
        // A writer that has ended takes no tasks, and needs none.
        let _ = tasks.send(task);
    }

    /// Where a peer is, while it is connected or being dialled.
    pub fn addr(&self, conn: ConnId) -> Option<SocketAddr> {
        self.open.get(&conn).map(|open| open.addr)
    }

    /// Ends a connection, at whatever stage it is.
    pub fn hang_up(&mut self, conn: ConnId) {
        self.open.remove(&conn);
    }
}

/// The pool of empty chunks: where the assembler puts them, and where readers take them.
pub fn chunk_pool() -> (Sender<Vec<u8>>, Receiver<Vec<u8>>) {
    bounded(crate::event::DELIVERIES_MAX)
}
