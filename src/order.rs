//! Sorting lists that are short, or sorted seldom.
//!
//! The standard library's sorts are made anew for each type and each order: 5 KB of code each time,
//! 140 KB in all. Here one sort orders the places of the elements, whatever they are, and the elements
//! are then moved there.
//!
//! Layer: values.

use std::cmp::Ordering;

/// Puts a list in order. What is equal stays in the order in which it was.
pub fn sort_by<T>(list: &mut [T], mut compare: impl FnMut(&T, &T) -> Ordering) {
    let mut from: Vec<usize> = (0..list.len()).collect();
    sort_places(&mut from, &mut |a, b| compare(&list[a], &list[b]));
    // Each cycle of places: what belongs at `to` comes there, and leaves a place to what belongs there.
    for start in 0..from.len() {
        let mut to = start;
        while from[to] != start {
            let next = from[to];
            list.swap(to, next);
            from[to] = to;
            to = next;
        }
        from[to] = to;
    }
}

pub fn sort_by_key<T, K: Ord>(list: &mut [T], mut key: impl FnMut(&T) -> K) {
    sort_by(list, |a, b| key(a).cmp(&key(b)));
}

pub fn sort<T: Ord>(list: &mut [T]) {
    sort_by(list, T::cmp);
}

fn sort_places(places: &mut [usize], compare: &mut dyn FnMut(usize, usize) -> Ordering) {
    places.sort_by(|&a, &b| compare(a, b));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sorts_as_the_standard_library_does() {
        let mut rng = fastrand::Rng::with_seed(5);
        for len in 0..200 {
            let mut ours: Vec<(u8, usize)> = (0..len).map(|n| (rng.u8(..20), n)).collect();
            let mut theirs = ours.clone();
            theirs.sort_by_key(|pair| pair.0);
            sort_by_key(&mut ours, |pair| pair.0);
            assert_eq!(ours, theirs);
            theirs.sort();
            rng.shuffle(&mut ours);
            sort(&mut ours);
            assert_eq!(ours, theirs);
        }
    }
}
