//! How a session ends, when more than one thing has a word in it.
//!
//! Events come in batches: a disk that fails and the last piece, or the user's wish to stop, may be in
//! the same one.
//!
//! Layer: head. Pure. Owned by the session's loop.

use anyhow::Result;

use super::Outcome;

/// What has been said of the end; nothing while the session goes on.
#[derive(Debug, Default)]
pub struct Ending(Option<Result<Outcome>>);

impl Ending {
    /// The first error stays: what follows from it is no news, and no success makes up for it. Of
    /// successes the last one counts, but that all is here stays true whoever stops it then.
    pub fn end_with(&mut self, end: Result<Outcome>) {
        let stays = match &self.0 {
            Some(Err(_)) => true,
            Some(Ok(Outcome::Complete)) => end.is_ok(),
            _ => false,
        };
        if !stays {
            self.0 = Some(end);
        }
    }

    pub fn is_over(&self) -> bool {
        self.0.is_some()
    }

    pub fn take(&mut self) -> Option<Result<Outcome>> {
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_stays_and_outweighs_every_success() {
        use Outcome::{Complete, GaveUp, ReaderLeft, Stopped};
        let check = |words: &[std::result::Result<Outcome, &'static str>], expected| {
            let mut ending = Ending::default();
            assert!(!ending.is_over());
            words.iter().for_each(|word| ending.end_with(word.map_err(anyhow::Error::msg)));
            assert!(ending.is_over());
            let end = ending.take().expect("something was said");
            assert_eq!(end.map_err(|err| err.to_string()), expected, "{words:?}");
        };
        let disk = || Err("the disk failed".to_owned());
        check(&[Err("the disk failed"), Ok(Complete)], disk());
        check(&[Err("the disk failed"), Ok(Stopped)], disk());
        check(&[Err("the disk failed"), Err("and again")], disk());
        check(&[Ok(Complete), Err("the disk failed"), Ok(Complete)], disk());
        check(&[Ok(Stopped), Err("the disk failed"), Ok(GaveUp)], disk());
        check(&[Ok(Complete), Ok(Stopped)], Ok(Complete));
        check(&[Ok(Stopped), Ok(Complete)], Ok(Complete));
        check(&[Ok(GaveUp), Ok(ReaderLeft)], Ok(ReaderLeft));
    }
}
