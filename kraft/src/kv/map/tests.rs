//! The map against the one of std.

use std::collections::BTreeMap;
use std::fmt::Debug;

use fastrand::Rng;

use super::*;
use crate::kv::tests::seed;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Holds what a map says of itself to what its nodes are.
fn check(map: &Map, model: &Model) {
    let mut depths = vec![];
    check_node(&map.root, true, 0, &mut depths);
    assert!(depths.windows(2).all(|two| two[0] == two[1]), "leaves equally deep");
    assert_eq!(map.len(), model.len());
    let expected = model.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    assert_same(map.iter(), expected);
}

fn assert_same<T: PartialEq + Debug>(one: impl Iterator<Item = T>, other: impl Iterator<Item = T>) {
    assert_eq!(one.collect::<Vec<_>>(), other.collect::<Vec<_>>());
}

/// Returns the first and the last key.
fn check_node<'a>(node: &'a Node, is_root: bool, depth: usize, depths: &mut Vec<usize>) -> Option<[&'a [u8]; 2]> {
    assert!(node.len() <= NODE_MAX);
    match node {
        Node::Leaf(leaf) => {
            depths.push(depth);
            assert!(is_root || node.len() > 0);
            assert_eq!(leaf.keys.len(), leaf.values.len());
            assert!(leaf.keys.is_sorted_by(|one, other| one.as_slice() < other.as_slice()));
            Some([leaf.keys.first()?.as_slice(), leaf.keys.last()?.as_slice()])
        }
        Node::Inner(inner) => {
            assert!(node.len() >= 2);
            assert_eq!(inner.bounds.len(), inner.children.len());
            assert!(inner.children.iter().all(Option::is_some));
            let ends: Vec<_> = inner
                .children
                .iter()
                .flatten()
                .map(|child| check_node(child, false, depth + 1, depths).expect("a node but the root is not empty"))
                .collect();
            for (at, bound) in inner.bounds.iter().enumerate().skip(1) {
                assert!(ends[at - 1][1] < bound.as_slice() && bound.as_slice() <= ends[at][0]);
            }
            Some([ends[0][0], ends[ends.len() - 1][1]])
        }
    }
}

fn key(number: usize) -> Vec<u8> {
    // Every third is above what lies in a node itself.
    format!(
        "{number:0width$}",
        width = if number.is_multiple_of(3) { 30 } else { 6 }
    )
    .into_bytes()
}

#[test]
fn a_map_and_its_clones_hold_what_was_put_and_nothing_else() {
    let mut rng = Rng::with_seed(seed());
    let (mut map, mut model) = (Map::default(), Model::new());
    let mut clones = vec![];
    for step in 0..60_000 {
        // It grows to three levels, shrinks to nothing, and grows again.
        let grows = step / 15_000 % 2 == 0;
        let key = key(rng.usize(..4000));
        if rng.u8(..10) < if grows { 8 } else { 2 } {
            let value = vec![rng.u8(..); rng.usize(..3)];
            let old = model.insert(key.clone(), value.clone());
            assert_eq!(map.insert(&key, &value), old.map(|old| old.len()));
        } else {
            let old = model.remove(&key);
            assert_eq!(map.remove(&key), old.map(|old| old.len()));
        }
        if step % 1000 == 0 {
            check(&map, &model);
            clones.push((map.clone(), model.clone()));
        }
        if rng.u16(..) < 50 && !clones.is_empty() {
            let (map, model) = clones.swap_remove(rng.usize(..clones.len()));
            check(&map, &model);
        }
    }
    for (map, model) in &clones {
        check(map, model);
    }
    for key in model.keys() {
        map.remove(key);
    }
    check(&map, &Model::new());
}

#[test]
fn ranges_begin_where_they_are_told() {
    let mut rng = Rng::with_seed(seed());
    let (mut map, mut model) = (Map::default(), Model::new());
    for _ in 0..2000 {
        let key = key(rng.usize(..3000));
        map.insert(&key, b"");
        model.insert(key, vec![]);
    }
    for number in 0..3001 {
        let key = key(number);
        assert_eq!(map.get(&key).is_some(), model.contains_key(&key));
        for start in [Bound::Included(&key[..]), Bound::Excluded(&key[..]), Bound::Unbounded] {
            let keys = |entry: (&[u8], &[u8])| entry.0.to_vec();
            let expected = model
                .range::<[u8], _>((start, Bound::Unbounded))
                .map(|(key, _)| key.clone());
            assert_same(map.range(start).take(40).map(keys), expected.take(40));
        }
    }
}

#[test]
fn keys_that_come_in_order_fill_their_leaves() {
    let mut map = Map::default();
    let mut model = Model::new();
    for number in 0_u32..2000 {
        map.insert(&number.to_be_bytes(), b"v");
        model.insert(number.to_be_bytes().into(), b"v".into());
    }
    check(&map, &model);
    let mut depths = vec![];
    check_node(&map.root, true, 0, &mut depths);
    assert_eq!(depths.len(), 2000_usize.div_ceil(NODE_MAX));
}

#[test]
fn keys_that_come_backwards_are_in_order() {
    let (mut map, mut model) = (Map::default(), Model::new());
    for number in (0_u32..3000).rev() {
        map.insert(&number.to_be_bytes(), b"v");
        model.insert(number.to_be_bytes().into(), b"v".into());
    }
    check(&map, &model);
    for number in (1000_u32..3000).rev() {
        map.remove(&number.to_be_bytes());
        model.remove(&number.to_be_bytes()[..]);
    }
    check(&map, &model);
}

#[test]
fn a_map_is_built_of_what_comes_in_order_and_of_nothing_else() {
    let mut rng = Rng::with_seed(seed());
    for count in (0..100).chain([NODE_FILL * NODE_FILL, NODE_FILL * NODE_FILL + 1, 5000].map(|count| count as u32)) {
        let mut builder = Builder::default();
        let mut model = Model::new();
        for number in 0_u32..count {
            let (key, value) = (number.to_be_bytes(), [7; 3]);
            builder.push(&key, &value).expect("it is the next");
            model.insert(key.into(), value.into());
        }
        let mut map = builder.finish();
        check(&map, &model);
        for _ in 0..count {
            let key = rng.u32(..count).to_be_bytes();
            assert_eq!(map.remove(&key), model.remove(&key[..]).map(|old| old.len()));
        }
        check(&map, &model);
    }
    let mut builder = Builder::default();
    assert_eq!(builder.push(b"b", b""), Some(()));
    assert_eq!(builder.push(b"b", b""), None);
    assert_eq!(builder.push(b"a", b""), None);
}

#[test]
fn a_clone_shares_all_but_the_way_to_what_changed() {
    fn leaves<'a>(node: &'a Arc<Node>, all: &mut Vec<&'a Arc<Node>>) {
        match &**node {
            Node::Leaf(_) => all.push(node),
            Node::Inner(inner) => inner.children.iter().flatten().for_each(|child| leaves(child, all)),
        }
    }
    let mut map = Map::default();
    for number in 0_u32..2000 {
        map.insert(&number.to_be_bytes(), b"v");
    }
    let clone = map.clone();
    map.remove(b"absent");
    assert!(Arc::ptr_eq(&map.root, &clone.root), "nothing changed");
    map.insert(&1000_u32.to_be_bytes(), b"w");
    let (mut then, mut now) = (vec![], vec![]);
    leaves(&clone.root, &mut then);
    leaves(&map.root, &mut now);
    let unlike = then
        .iter()
        .zip(&now)
        .filter(|(then, now)| !Arc::ptr_eq(then, now))
        .count();
    assert_eq!((then.len(), unlike), (now.len(), 1));
}

#[test]
fn a_value_keeps_its_memory_while_nobody_shares_it() {
    let mut map = Map::default();
    map.insert(b"k", b"one");
    let at = |map: &Map| map.get(b"k").map(<[u8]>::as_ptr);
    let before = at(&map);
    map.insert(b"k", b"two");
    assert_eq!(at(&map), before);
    let clone = map.clone();
    map.insert(b"k", b"six");
    assert_ne!(at(&map), before);
    assert_eq!((map.get(b"k"), clone.get(b"k")), (Some(&b"six"[..]), Some(&b"two"[..])));
}
