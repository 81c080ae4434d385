//! The last words when a mapped file is cut short by somebody else.
//!
//! Touching a page that the file no longer has is a SIGBUS, whose default is a silent death. There
//! is no way back into the thread that touched it, so: one line, exit code 1.
//!
//! Layer: hands. Runs in whichever thread touched the page.

#![allow(unsafe_code)]

#[cfg(unix)]
const LAST_WORDS: &[u8] = b"piecemeal: a file of the torrent was cut short by another program, or its disk failed, while it \
was being used; what was verified is kept\n";

/// Installs the handlers, once for the whole process.
pub fn install() {
    #[cfg(unix)]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            // SAFETY: the action only calls write and _exit, which may be called in a signal
            // handler, and touches nothing but a constant.
            let done = unsafe { signal_hook::low_level::register(libc::SIGBUS, last_words) };
            // Without the handler, the same event only is a less polite death.
            let _ = done;
            // A limit on the size of files (ulimit -f) is to be an error of the call, EFBIG, and
            // not a death: a handler that does nothing is enough.
            // SAFETY: the action does nothing at all.
            let _ = unsafe { signal_hook::low_level::register(libc::SIGXFSZ, || ()) };
        });
    }
}

#[cfg(unix)]
fn last_words() {
    // SAFETY: both may be called in a signal handler (POSIX); the buffer is a constant.
    unsafe {
        libc::write(libc::STDERR_FILENO, LAST_WORDS.as_ptr().cast(), LAST_WORDS.len());
        libc::_exit(1);
    }
}
