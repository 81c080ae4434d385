//! Opening files below one folder without following a link.
//!
//! ```text
//! the folder ──openat(NAME)──► a folder ──openat("a")──► a folder ──openat("b")──► the file
//!  links are the user's        each step O_NOFOLLOW: a link planted there is refused
//! ```
//!
//! A torrent names its files, and a link may lie in their way: left by an attacker, or by a torrent
//! unpacked before. Checking a path first and opening it afterwards leaves a gap for whoever plants
//! the link in between; taking each step from the folder that the last step opened leaves none.
//! Only regular files are opened: a FIFO would never answer, and a device never end.
//!
//! Layer: hands. Owns one descriptor, that of the folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Error, ErrorKind};
use std::path::{Path, PathBuf};

use super::room;

/// A folder that was opened once, and stays the same one whatever happens to its path.
#[derive(Debug)]
pub struct Folder {
    #[cfg(unix)]
    fd: std::os::fd::OwnedFd,
    path: PathBuf,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    /// Reading and writing; missing folders and the file itself are created.
    Write,
}

/// What lies at a path, links not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub kind: Kind,
    /// In bytes.
    pub size: u64,
    /// Bytes that have room on the disk; less than the size if the file has holes.
    pub allocated: u64,
    /// Last change, in nanoseconds since 1970.
    pub modified: i128,
    pub id: Id,
}

/// Which file it is, whatever its name: device and number. Zeros where there is no such thing.
pub type Id = (u64, u64);

/// The identity of an open file.
pub fn id(file: &File) -> io::Result<Id> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let data = file.metadata()?;
        Ok((data.dev(), data.ino()))
    }
    #[cfg(not(unix))]
    file.metadata().map(|_| (0, 0))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    Link,
    /// A FIFO, a socket, a device.
    Special,
}

impl Kind {
    /// The reason why this is not a file to read or write.
    pub fn complaint(self) -> Option<&'static str> {
        match self {
            Kind::File => None,
            Kind::Folder => Some("is a folder, not a file"),
            Kind::Link => Some("is a symbolic link; links are not followed"),
            Kind::Special => Some("is a special file (a pipe, a socket or a device)"),
        }
    }
}

impl Folder {
    /// Opens a folder that exists.
    pub fn open(path: &Path) -> io::Result<Folder> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            let flags = libc::O_DIRECTORY | unix::O_WALK;
            let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
            Ok(Folder { fd: file.into(), path: path.to_owned() })
        }
        #[cfg(not(unix))]
        {
            if !fs::metadata(path)?.is_dir() {
                return Err(Error::new(ErrorKind::NotADirectory, "is not a folder"));
            }
            Ok(Folder { path: path.to_owned() })
        }
    }

    /// Opens a folder; it and those above it are created if missing.
    pub fn create(path: &Path) -> io::Result<Folder> {
        fs::create_dir_all(path)?;
        Folder::open(path)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that may still be written to the folder's disk, where somebody says.
    pub fn free(&self) -> Option<u64> {
        #[cfg(unix)]
        return room::free(std::os::fd::AsFd::as_fd(&self.fd));
        #[cfg(not(unix))]
        None
    }

    /// Waits until the folder's whole file system has written out what it has.
    pub fn sync_all_of_it(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        // A descriptor that only walks (O_PATH) is refused for this.
        return room::sync(std::os::fd::AsFd::as_fd(&File::open(&self.path)?));
        #[cfg(not(target_os = "linux"))]
        Err(ErrorKind::Unsupported.into())
    }

    /// Opens a regular file. The error's kind is `NotFound` if it or a folder on the way is missing.
    pub fn open_file(&self, components: &[&OsStr], access: Access) -> io::Result<File> {
        // Looking first costs a call, but opening a device can have an effect in itself.
        match self.status(components) {
            Ok(status) => not_a_file(status.kind)?,
            Err(err) if err.kind() == ErrorKind::NotFound && access == Access::Write => {}
            Err(err) => return Err(err),
        }
        let file = self.open_last(components, access)?;
        // What was looked at may have been replaced: what counts is what was opened.
        not_a_file(kind_of(&file.metadata()?.file_type()))?;
        Ok(file)
    }
}

/// Whether an error says nothing about what is there: we lack descriptors or memory. Whoever takes it
/// for "not there", or "not the right bytes", fetches anew what is right.
pub fn is_shortage(err: &Error) -> bool {
    #[cfg(unix)]
    return matches!(err.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM));
    #[cfg(not(unix))]
    return err.kind() == ErrorKind::OutOfMemory;
}

/// What was found, or that it is not there or of no use; a shortage stays an error.
pub fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(err) if is_shortage(&err) => Err(err),
        Err(_) => Ok(None),
    }
}

fn not_a_file(kind: Kind) -> io::Result<()> {
    kind.complaint().map_or(Ok(()), |why| Err(Error::new(ErrorKind::InvalidInput, why)))
}

fn kind_of(of: &fs::FileType) -> Kind {
    match of {
        of if of.is_file() => Kind::File,
        of if of.is_dir() => Kind::Folder,
        of if of.is_symlink() => Kind::Link,
        _ => Kind::Special,
    }
}

#[cfg(unix)]
mod unix {
    #![allow(unsafe_code)]

    use std::ffi::CString;
    use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    /// Enough to walk through a folder, even one that we may not list.
    #[cfg(target_os = "linux")]
    pub const O_WALK: i32 = libc::O_PATH;
    #[cfg(not(target_os = "linux"))]
    pub const O_WALK: i32 = 0;

    /// For folders that we create; the user's umask takes its part away.
    const FOLDER_MODE: u32 = 0o777;
    const FILE_MODE: u32 = 0o666;

    impl Folder {
        /// What lies at a path below the folder.
        pub fn status(&self, components: &[&OsStr]) -> io::Result<Status> {
            self.walk(components, Access::Read, status_at)
        }

        pub(super) fn open_last(&self, parts: &[&OsStr], access: Access) -> io::Result<File> {
            let flags = match access {
                Access::Read => libc::O_RDONLY,
                Access::Write => libc::O_RDWR | libc::O_CREAT,
            };
            // Without NONBLOCK, opening a FIFO waits for its other end.
            let flags = flags | libc::O_NONBLOCK | libc::O_NOCTTY;
            self.walk(parts, access, |folder, name| open_at(folder, name, flags)).map(File::from)
        }

        /// Goes to the last component's folder, step by step, and does something there.
        fn walk<T>(
            &self,
            components: &[&OsStr],
            access: Access,
            last: impl FnOnce(BorrowedFd, &CString) -> io::Result<T>,
        ) -> io::Result<T> {
            use std::os::fd::AsFd;
            let (name, above) = components.split_last().expect("a file has a name");
            let mut here: Option<OwnedFd> = None;
            for part in above {
                let from = here.as_ref().unwrap_or(&self.fd).as_fd();
                let next = step(from, &c_string(part)?, access);
                here = Some(next.map_err(|err| on_the_way(part, err))?);
            }
            last(here.as_ref().unwrap_or(&self.fd).as_fd(), &c_string(name)?)
        }
    }

    /// One step down, into a folder that is created if it is missing and we are to write.
    fn step(from: BorrowedFd, name: &CString, access: Access) -> io::Result<OwnedFd> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | O_WALK;
        let opened = open_at(from, name, flags);
        match opened {
            Err(err) if err.kind() == ErrorKind::NotFound && access == Access::Write => {
                // SAFETY: the name ends with NUL and outlives the call; nothing else is passed.
                let made = unsafe {
                    libc::mkdirat(from.as_raw_fd(), name.as_ptr(), FOLDER_MODE as libc::mode_t)
                };
                let err = Error::last_os_error();
                // Somebody else may have made it meanwhile.
                if made != 0 && err.kind() != ErrorKind::AlreadyExists {
                    return Err(err);
                }
                open_at(from, name, flags)
            }
            Err(err) => match status_at(from, name)?.kind {
                Kind::Folder => Err(err),
                Kind::Link => Err(Error::new(
                    ErrorKind::InvalidInput,
                    Kind::Link.complaint().unwrap_or_default(),
                )),
                Kind::File | Kind::Special => {
                    Err(Error::new(ErrorKind::NotADirectory, "is a file, not a folder"))
                }
            },
            opened => opened,
        }
    }

    fn on_the_way(part: &OsStr, err: Error) -> Error {
        match err.kind() {
            // Callers branch on this one, and a missing folder is a missing file.
            ErrorKind::NotFound => err,
            // It has nothing to do with the folder, and is known by its number.
            _ if is_shortage(&err) => err,
            kind => Error::new(kind, format!("its folder {}: {err}", part.display())),
        }
    }

    fn open_at(folder: BorrowedFd, name: &CString, flags: i32) -> io::Result<OwnedFd> {
        let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        loop {
            // SAFETY: the name ends with NUL and outlives the call; a mode is passed with O_CREAT.
            let fd = unsafe {
                libc::openat(folder.as_raw_fd(), name.as_ptr(), flags, FILE_MODE as libc::c_uint)
            };
            if 0 <= fd {
                // SAFETY: the descriptor was opened just now, and nobody else knows it.
                return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
            }
            let err = Error::last_os_error();
            match err.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::ELOOP) => return not_a_file(Kind::Link).and(Err(err)),
                _ => return Err(err),
            }
        }
    }

    // The fields' types differ from system to system.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    fn status_at(folder: BorrowedFd, name: &CString) -> io::Result<Status> {
        // SAFETY: `stat` is plain numbers, for which all zeros is a value.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the name ends with NUL, `stat` is ours to write; both outlive the call.
        let done = unsafe {
            let nofollow = libc::AT_SYMLINK_NOFOLLOW;
            libc::fstatat(folder.as_raw_fd(), name.as_ptr(), &raw mut stat, nofollow)
        };
        if done != 0 {
            return Err(Error::last_os_error());
        }
        Ok(Status {
            kind: match stat.st_mode & libc::S_IFMT {
                libc::S_IFREG => Kind::File,
                libc::S_IFDIR => Kind::Folder,
                libc::S_IFLNK => Kind::Link,
                _ => Kind::Special,
            },
            size: u64::try_from(stat.st_size).unwrap_or(0),
            // POSIX leaves the unit open, but everybody counts in 512 bytes.
            allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
            modified: i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec),
            id: (stat.st_dev as u64, stat.st_ino as u64),
        })
    }

    fn c_string(part: &OsStr) -> io::Result<CString> {
        CString::new(part.as_bytes()).map_err(|_| Error::new(ErrorKind::InvalidInput, "a NUL byte"))
    }
}

#[cfg(not(unix))]
mod other {
    //! Without `openat`, each step is looked at before the whole path is opened: a link planted in
    //! between would be followed, one that lies there is not.

    use super::*;

    impl Folder {
        pub fn status(&self, components: &[&OsStr]) -> io::Result<Status> {
            let path = self.checked(components)?;
            let data = fs::symlink_metadata(path)?;
            let modified = data.modified()?.duration_since(std::time::UNIX_EPOCH);
            Ok(Status {
                kind: kind_of(&data.file_type()),
                size: data.len(),
                allocated: data.len(),
                modified: modified.map_or(0, |time| time.as_nanos() as i128),
                id: (0, 0),
            })
        }

        pub(super) fn open_last(&self, parts: &[&OsStr], access: Access) -> io::Result<File> {
            let path = self.checked(parts)?;
            if access == Access::Read {
                return File::open(path);
            }
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
        }

        fn checked(&self, components: &[&OsStr]) -> io::Result<PathBuf> {
            let mut path = self.path.clone();
            for part in components {
                path.push(part);
                if fs::symlink_metadata(&path).is_ok_and(|data| data.is_symlink()) {
                    not_a_file(Kind::Link)?;
                }
            }
            Ok(path)
        }
    }
}
