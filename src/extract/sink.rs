//! scraper's tree sink with a watch on it: how deep each node lies, how many there are, whether anything happens.
//!
//! html5ever is quadratic in the depth of the tree (html5ever#788) and in the attributes of one tag, and what walks the
//! tree later may recurse. A gate before the parse cannot tell: 20,000 unclosed `<li>` make a tree 5 deep.

use html5ever::tendril::StrTendril;
use html5ever::tree_builder::{ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::{Attribute, QualName};
use scraper::{Html, HtmlTreeSink, Node};
use std::borrow::Cow;
use std::cell::{Cell, Ref, RefCell};

type Inner = <HtmlTreeSink as TreeSink>::Handle;

/// A node of the inner sink and its number here, by which its depth is kept.
#[derive(Clone, Copy)]
pub(super) struct Handle {
    id: Inner,
    n: u32,
}

/// [`HtmlTreeSink`] by delegation; parse errors are dropped, since nobody reads them.
pub(super) struct WatchingSink {
    inner: HtmlTreeSink,
    depths: RefCell<Vec<u32>>,
    deepest: Cell<u32>,
    /// Subtrees moved since the tree was last measured; each can be one deeper than `deepest` tells.
    moved: Cell<u32>,
    calls: Cell<u64>,
}

impl WatchingSink {
    #[cfg(test)]
    pub(super) fn new() -> Self {
        Self::sized(1024)
    }

    pub(super) fn sized(bytes: usize) -> Self {
        let nodes = (bytes / 16).clamp(64, 1 << 15);
        let mut html = Html::new_document();
        html.tree = ego_tree::Tree::with_capacity(Node::Document, nodes);
        let mut depths = Vec::with_capacity(nodes / 2);
        depths.push(0);
        Self {
            inner: HtmlTreeSink::new(html),
            depths: RefCell::new(depths),
            deepest: Cell::new(0),
            moved: Cell::new(0),
            calls: Cell::new(0),
        }
    }

    /// Levels of the deepest node under the document. Exact where it is within `cap`; above it, too deep for certain.
    pub(super) fn depth(&self, cap: u32) -> u32 {
        if self.deepest.get() + self.moved.get() > cap && self.moved.get() > 0 {
            self.deepest.set(measure(&self.inner.0.borrow()));
            self.moved.set(0);
        }
        self.deepest.get()
    }

    /// Nodes made so far, text left out.
    pub(super) fn nodes(&self) -> usize {
        self.depths.borrow().len()
    }

    /// Changes so far: a long run of input without one is all inside one tag, comment or text.
    pub(super) fn calls(&self) -> u64 {
        self.calls.get()
    }

    fn made(&self, id: Inner, depth: u32) -> Handle {
        self.calls.set(self.calls.get() + 1);
        let mut depths = self.depths.borrow_mut();
        let n = u32::try_from(depths.len()).unwrap_or(u32::MAX);
        depths.push(depth);
        Handle { id, n }
    }

    fn depth_of(&self, h: &Handle) -> u32 {
        self.depths.borrow().get(h.n as usize).copied().unwrap_or(0)
    }

    /// Notes what is about to be put at `depth`; text has none.
    fn put(&self, child: &NodeOrText<Handle>, depth: impl FnOnce() -> u32) {
        self.calls.set(self.calls.get() + 1);
        let NodeOrText::AppendNode(child) = child else { return };
        let depth = depth();
        if let Some(d) = self.depths.borrow_mut().get_mut(child.n as usize) {
            if *d != 0 && *d != depth {
                // It was elsewhere before, and may have brought children along.
                self.moved.set(self.moved.get() + 1);
            }
            *d = depth;
        }
        self.deepest.set(self.deepest.get().max(depth));
    }
}

/// The depth of the tree, walked without recursion.
pub(super) fn measure(html: &Html) -> u32 {
    let (mut node, mut depth, mut deepest) = (html.tree.root(), 0u32, 0u32);
    loop {
        if let Some(child) = node.first_child() {
            node = child;
            depth += 1;
            deepest = deepest.max(depth);
            continue;
        }
        loop {
            if let Some(next) = node.next_sibling() {
                node = next;
                break;
            }
            match node.parent() {
                Some(parent) => node = parent,
                None => return deepest,
            }
            depth = depth.saturating_sub(1);
        }
    }
}

fn plain(child: NodeOrText<Handle>) -> NodeOrText<Inner> {
    match child {
        NodeOrText::AppendNode(h) => NodeOrText::AppendNode(h.id),
        NodeOrText::AppendText(t) => NodeOrText::AppendText(t),
    }
}

impl TreeSink for WatchingSink {
    type Handle = Handle;
    type Output = Html;
    type ElemName<'a> = Ref<'a, QualName>;

    fn finish(self) -> Html {
        self.inner.finish()
    }

    fn parse_error(&self, _msg: Cow<'static, str>) {}

    fn get_document(&self) -> Handle {
        Handle { id: self.inner.get_document(), n: 0 }
    }

    /// As the inner sink does it, but here, where the parser is compiled: it is asked many times a tag.
    #[inline]
    fn elem_name<'a>(&'a self, target: &'a Handle) -> Ref<'a, QualName> {
        let name = Ref::filter_map(self.inner.0.borrow(), |html| match html.tree.get(target.id)?.value() {
            Node::Element(e) => Some(&e.name),
            _ => None,
        });
        name.unwrap_or_else(|_| self.inner.elem_name(&target.id))
    }

    fn create_element(&self, name: QualName, attrs: Vec<Attribute>, flags: ElementFlags) -> Handle {
        self.made(self.inner.create_element(name, attrs, flags), 0)
    }

    fn create_comment(&self, text: StrTendril) -> Handle {
        self.made(self.inner.create_comment(text), 0)
    }

    fn create_pi(&self, target: StrTendril, data: StrTendril) -> Handle {
        self.made(self.inner.create_pi(target, data), 0)
    }

    fn append(&self, parent: &Handle, child: NodeOrText<Handle>) {
        self.put(&child, || self.depth_of(parent) + 1);
        self.inner.append(&parent.id, plain(child));
    }

    fn append_based_on_parent_node(&self, element: &Handle, prev_element: &Handle, child: NodeOrText<Handle>) {
        self.put(&child, || self.depth_of(element).max(self.depth_of(prev_element) + 1));
        self.inner.append_based_on_parent_node(&element.id, &prev_element.id, plain(child));
    }

    fn append_before_sibling(&self, sibling: &Handle, new_node: NodeOrText<Handle>) {
        self.put(&new_node, || self.depth_of(sibling));
        self.inner.append_before_sibling(&sibling.id, plain(new_node));
    }

    fn append_doctype_to_document(&self, name: StrTendril, public_id: StrTendril, system_id: StrTendril) {
        self.calls.set(self.calls.get() + 1);
        self.inner.append_doctype_to_document(name, public_id, system_id);
    }

    fn mark_script_already_started(&self, node: &Handle) {
        self.inner.mark_script_already_started(&node.id);
    }

    fn get_template_contents(&self, target: &Handle) -> Handle {
        self.made(self.inner.get_template_contents(&target.id), self.depth_of(target) + 1)
    }

    fn same_node(&self, x: &Handle, y: &Handle) -> bool {
        x.id == y.id
    }

    fn set_quirks_mode(&self, mode: QuirksMode) {
        self.inner.set_quirks_mode(mode);
    }

    fn add_attrs_if_missing(&self, target: &Handle, attrs: Vec<Attribute>) {
        self.inner.add_attrs_if_missing(&target.id, attrs);
    }

    fn remove_from_parent(&self, target: &Handle) {
        self.inner.remove_from_parent(&target.id);
    }

    fn reparent_children(&self, node: &Handle, new_parent: &Handle) {
        self.moved.set(self.moved.get() + 1);
        self.inner.reparent_children(&node.id, &new_parent.id);
    }
}
