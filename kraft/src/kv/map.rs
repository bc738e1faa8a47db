//! An ordered map whose clone takes no time: a B+tree of nodes that clones share until one of them changes.
//!
//! The crate `imbl` has one, too. It is under the MPL, which deny.toml does not allow, and brings eight crates; puts were
//! no faster.

mod cells;

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use self::cells::Cells;
use super::key::Key;

/// Entries of a leaf, children of an inner node: few enough to look at one after the other, which the processor runs
/// ahead of, as it cannot of a binary search. What a change copies while a clone shares the node grows with it.
const NODE_MAX: usize = 16;

/// A node with fewer is joined with a neighbour, or takes of it.
const NODE_MIN: usize = NODE_MAX / 4;

/// Of nodes made of what is in order already: as full as those of a map that grew in no order are on average, so that
/// the next puts need not split them all.
const NODE_FILL: usize = NODE_MAX * 3 / 4;

/// A value that clones share.
pub(super) type Value = Arc<[u8]>;

/// The map. Its clone is a reference; a change copies the nodes on the way to it that a clone refers to as well, one
/// a level, and no value.
#[derive(Clone, Debug)]
pub(super) struct Map {
    root: Arc<Node>,
    len: usize,
}

/// Invariants: all leaves are equally deep; no leaf but the root is empty, and every inner node has two children at
/// least; none has more than [`NODE_MAX`].
#[derive(Clone, Debug)]
enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

/// Invariant: as many values as keys, which ascend. A cell is empty behind the last alone.
#[derive(Clone, Debug)]
struct Leaf {
    keys: Cells<Key>,
    values: Cells<Option<Value>>,
}

/// Invariants: as many bounds as children; `bounds[i]` is at most every key below `children[i]` and above every key
/// below those before. The first is never looked at: what is below it belongs to the first child as well.
#[derive(Clone, Debug)]
struct Inner {
    bounds: Cells<Key>,
    children: Cells<Option<Arc<Node>>>,
}

/// A node that split off to the right of another, and its bound.
type Split = Option<(Key, Arc<Node>)>;

impl Default for Map {
    fn default() -> Self {
        Self {
            root: Arc::new(Node::Leaf(Leaf::new())),
            len: 0,
        }
    }
}

impl Map {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(inner) => node = inner.child(inner.position(key)),
                Node::Leaf(leaf) => return leaf.position(key).ok().map(|at| leaf.value(at)),
            }
        }
    }

    /// Sets a key. Returns how many bytes the value had that it replaces.
    pub(super) fn insert(&mut self, key: &[u8], value: &[u8]) -> Option<usize> {
        let (old, split) = Node::insert(&mut self.root, key, value);
        if let Some((bound, right)) = split {
            let mut inner = Inner::new();
            inner.push(Key::default(), self.root.clone());
            inner.push(bound, right);
            self.root = Arc::new(Node::Inner(inner));
        }
        self.len += usize::from(old.is_none());
        old
    }

    /// Removes a key. Returns how many bytes its value had.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<usize> {
        // Or a key that is not there would copy the nodes on the way to it.
        let bytes = self.get(key)?.len();
        Node::remove(&mut self.root, key);
        while let Node::Inner(inner) = &*self.root
            && inner.children.len() == 1
        {
            self.root = inner.child(0).clone();
        }
        self.len -= 1;
        Some(bytes)
    }

    /// All entries, in order.
    pub(super) fn iter(&self) -> Iter<'_> {
        self.range(Bound::Unbounded)
    }

    /// The entries from a key on, in order.
    pub(super) fn range(&self, start: Bound<&[u8]>) -> Iter<'_> {
        let mut iter = Iter {
            path: vec![],
            leaf: None,
        };
        iter.descend(&self.root, start);
        iter
    }
}

impl Node {
    fn insert(node: &mut Arc<Self>, key: &[u8], value: &[u8]) -> (Option<usize>, Split) {
        match Arc::make_mut(node) {
            Self::Leaf(leaf) => match leaf.position(key) {
                Ok(at) => (Some(set(full(&mut leaf.values[at]), value)), None),
                Err(at) => (None, leaf.insert(at, key.into(), value.into())),
            },
            Self::Inner(inner) => {
                let at = inner.position(key);
                let (old, split) = Self::insert(full(&mut inner.children[at]), key, value);
                (old, split.and_then(|(bound, right)| inner.insert(at + 1, bound, right)))
            }
        }
    }

    /// Removes a key that is there.
    fn remove(node: &mut Arc<Self>, key: &[u8]) {
        match Arc::make_mut(node) {
            Self::Leaf(leaf) => {
                let at = leaf.position(key).expect("it was found a moment ago");
                leaf.keys.remove(at);
                leaf.values.remove(at);
            }
            Self::Inner(inner) => {
                let at = inner.position(key);
                Self::remove(full(&mut inner.children[at]), key);
                if inner.child(at).len() < NODE_MIN && inner.children.len() > 1 {
                    // The last has its neighbour to the left, the others to the right.
                    inner.join(at.min(inner.children.len() - 2));
                }
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.keys.len(),
            Self::Inner(inner) => inner.children.len(),
        }
    }
}

impl Leaf {
    fn new() -> Self {
        Self {
            keys: Cells::new(),
            values: Cells::new(),
        }
    }

    fn value(&self, at: usize) -> &[u8] {
        self.values[at].as_ref().expect(EMPTY)
    }

    /// Where the key is, or where it belongs.
    fn position(&self, key: &[u8]) -> Result<usize, usize> {
        for (at, other) in self.keys.iter().enumerate() {
            match other.as_slice().cmp(key) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(at),
                Ordering::Greater => return Err(at),
            }
        }
        Err(self.keys.len())
    }

    fn insert(&mut self, at: usize, key: Key, value: Value) -> Split {
        if self.keys.len() < NODE_MAX {
            self.keys.insert(at, key);
            self.values.insert(at, Some(value));
            return None;
        }
        // Keys that come in order leave full leaves behind.
        let middle = if at == NODE_MAX { NODE_MAX } else { NODE_MAX / 2 };
        let mut right = Self::new();
        self.keys.move_to_front_of(NODE_MAX - middle, &mut right.keys);
        self.values.move_to_front_of(NODE_MAX - middle, &mut right.values);
        let (half, at) = if at < middle {
            (self, at)
        } else {
            (&mut right, at - middle)
        };
        half.keys.insert(at, key);
        half.values.insert(at, Some(value));
        Some((right.keys[0].clone(), Arc::new(Node::Leaf(right))))
    }
}

impl Inner {
    fn new() -> Self {
        Self {
            bounds: Cells::new(),
            children: Cells::new(),
        }
    }

    fn child(&self, at: usize) -> &Arc<Node> {
        self.children[at].as_ref().expect(EMPTY)
    }

    fn push(&mut self, bound: Key, child: Arc<Node>) {
        self.bounds.push(bound);
        self.children.push(Some(child));
    }

    /// The child that has the key, if one has.
    fn position(&self, key: &[u8]) -> usize {
        let above = self.bounds[1..].iter().position(|bound| bound.as_slice() > key);
        above.unwrap_or(self.bounds.len() - 1)
    }

    /// `at` is not 0: what splits off stands behind another.
    fn insert(&mut self, at: usize, bound: Key, child: Arc<Node>) -> Split {
        if self.children.len() < NODE_MAX {
            self.bounds.insert(at, bound);
            self.children.insert(at, Some(child));
            return None;
        }
        // As with leaves, but a node of one child would have no neighbour for it.
        let middle = if at == NODE_MAX { NODE_MAX - 1 } else { NODE_MAX / 2 };
        let mut right = Self::new();
        self.bounds.move_to_front_of(NODE_MAX - middle, &mut right.bounds);
        self.children.move_to_front_of(NODE_MAX - middle, &mut right.children);
        let (half, at) = if at <= middle {
            (self, at)
        } else {
            (&mut right, at - middle)
        };
        half.bounds.insert(at, bound);
        half.children.insert(at, Some(child));
        Some((right.bounds[0].clone(), Arc::new(Node::Inner(right))))
    }

    /// Makes one of the children at `at` and behind, if one may have all, or divides what they have evenly.
    fn join(&mut self, at: usize) {
        let bound = self.bounds.remove(at + 1);
        let mut other = self.children.remove(at + 1);
        let right = full(&mut other);
        let bound = match (Arc::make_mut(full(&mut self.children[at])), Arc::make_mut(right)) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                level(&mut left.keys, &mut right.keys);
                level(&mut left.values, &mut right.values);
                right.keys.first().cloned()
            }
            (Node::Inner(left), Node::Inner(right)) => {
                right.bounds[0] = bound;
                level(&mut left.bounds, &mut right.bounds);
                level(&mut left.children, &mut right.children);
                right.bounds.first().cloned()
            }
            _ => unreachable!("all leaves are equally deep"),
        };
        if let Some(bound) = bound {
            self.bounds.insert(at + 1, bound);
            self.children.insert(at + 1, other);
        }
    }
}

/// What cells never are where the length says that they are used.
const EMPTY: &str = "a cell within its length is not empty";

fn full<T>(cell: &mut Option<T>) -> &mut T {
    cell.as_mut().expect(EMPTY)
}

/// Moves all to the left, if there is room, or makes both equally long.
fn level<T: Default>(left: &mut Cells<T>, right: &mut Cells<T>) {
    let all = left.len() + right.len();
    let wanted = if all > NODE_MAX { all / 2 } else { all };
    if left.len() < wanted {
        left.take_front_of(wanted - left.len(), right);
    } else {
        left.move_to_front_of(left.len() - wanted, right);
    }
}

/// Puts a value in the memory of the one before, if no clone has that and it fits; returns that one's length.
fn set(value: &mut Value, new: &[u8]) -> usize {
    let old = value.len();
    match Arc::get_mut(value) {
        Some(value) if old == new.len() => value.copy_from_slice(new),
        _ => *value = new.into(),
    }
    old
}

/// Makes a map of entries that come in order.
#[derive(Debug, Default)]
pub(super) struct Builder {
    leaves: Vec<(Key, Arc<Node>)>,
    leaf: Option<Leaf>,
    len: usize,
}

impl Builder {
    /// Takes the next entry; `None` if it does not come behind the last one.
    #[must_use]
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let leaf = self.leaf.get_or_insert_with(Leaf::new);
        if leaf.keys.last().is_some_and(|last| last.as_slice() >= key) {
            return None;
        }
        if leaf.keys.len() == NODE_FILL {
            let full = std::mem::replace(leaf, Leaf::new());
            self.leaves.push((full.keys[0].clone(), Arc::new(Node::Leaf(full))));
        }
        leaf.keys.push(key.into());
        leaf.values.push(Some(value.into()));
        self.len += 1;
        Some(())
    }

    pub(super) fn finish(self) -> Map {
        let mut nodes = self.leaves;
        if let Some(leaf) = self.leaf {
            nodes.push((leaf.keys[0].clone(), Arc::new(Node::Leaf(leaf))));
        }
        while nodes.len() > 1 {
            let inners = nodes.len().div_ceil(NODE_FILL);
            let (each, more) = (nodes.len() / inners, nodes.len() % inners);
            let mut below = nodes.into_iter();
            nodes = (0..inners)
                .map(|at| {
                    let mut inner = Inner::new();
                    for (bound, child) in below.by_ref().take(each + usize::from(at < more)) {
                        inner.push(bound, child);
                    }
                    (inner.bounds[0].clone(), Arc::new(Node::Inner(inner)))
                })
                .collect();
        }
        match nodes.pop() {
            Some((_, root)) => Map { root, len: self.len },
            None => Map::default(),
        }
    }
}

/// Entries in order.
#[derive(Debug)]
pub(super) struct Iter<'a> {
    /// The nodes above the leaf, and which child of each comes next.
    path: Vec<(&'a Inner, usize)>,
    leaf: Option<(&'a Leaf, usize)>,
}

impl<'a> Iter<'a> {
    /// Goes down to the first entry from `start` on, or to the end of the leaf that it would be in.
    fn descend(&mut self, mut node: &'a Node, start: Bound<&[u8]>) {
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = match start {
                        Bound::Included(key) | Bound::Excluded(key) => inner.position(key),
                        Bound::Unbounded => 0,
                    };
                    self.path.push((inner, at + 1));
                    node = inner.child(at);
                }
                Node::Leaf(leaf) => {
                    let at = match start {
                        Bound::Included(key) => leaf.position(key).unwrap_or_else(|at| at),
                        Bound::Excluded(key) => leaf.position(key).map_or_else(|at| at, |at| at + 1),
                        Bound::Unbounded => 0,
                    };
                    self.leaf = Some((leaf, at));
                    return;
                }
            }
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (leaf, at) = self.leaf.as_mut()?;
            if let Some(key) = leaf.keys.get(*at) {
                let value = leaf.value(*at);
                *at += 1;
                return Some((key.as_slice(), value));
            }
            self.leaf = None;
            while let Some((inner, next)) = self.path.last_mut() {
                if let Some(Some(child)) = inner.children.get(*next) {
                    *next += 1;
                    self.descend(child, Bound::Unbounded);
                    break;
                }
                self.path.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests;
