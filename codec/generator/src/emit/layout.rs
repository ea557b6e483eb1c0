//! Writes Rust for a frame that is no JSON.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};

use super::doc;
use crate::ir::Layout;

/// The module of a frame that is no JSON.
pub(super) fn module(layout: &Layout) -> TokenStream {
    let about = doc(&layout.description, 0);
    let name = format_ident!("{}", layout.name);
    let length = Literal::usize_unsuffixed(layout.header_bytes());
    let idents: Vec<_> = layout.fields.iter().map(|f| format_ident!("{}", f.name)).collect();
    let types: Vec<_> = layout.fields.iter().map(|f| format_ident!("u{}", f.bytes * 8)).collect();
    let mut end = 0;
    let places: Vec<(usize, usize)> = layout
        .fields
        .iter()
        .map(|field| {
            let start = end;
            end += field.bytes;
            (start, end)
        })
        .collect();
    let ranges: Vec<_> = places
        .iter()
        .map(|(start, end)| {
            let (start, end) = (Literal::usize_unsuffixed(*start), Literal::usize_unsuffixed(*end));
            quote!(#start..#end)
        })
        .collect();
    let values = places.iter().zip(&types).map(|((start, end), kind)| {
        let bytes = (*start..*end).map(Literal::usize_unsuffixed);
        quote!(#kind::from_be_bytes([#(header[#bytes]),*]))
    });
    let item = |name: &str, text: &str| doc(&format!("- `{name}`: {text}"), 4);
    let listed: Vec<_> = layout.fields.iter().map(|f| item(&f.name, &f.description)).collect();
    let rest = item(&layout.rest, &layout.rest_description);
    let setters = layout.fields.iter().zip(&idents).zip(&types).zip(&ranges);
    let setters = setters.map(|(((field, ident), kind), range)| {
        let setter = format_ident!("set_{}", field.name);
        let text = format!(
            "Writes another `{}` into a frame. One without a whole header is left as it is.",
            field.name
        );
        let about = doc(&text, 4);
        quote! {
            #about
            pub fn #setter(frame: &mut [u8], #ident: #kind) {
                if let Some(header) = frame.first_chunk_mut::<HEADER_BYTES>() {
                    header[#range].copy_from_slice(&#ident.to_be_bytes());
                }
            }
        }
    });
    quote! {
        #about
        pub mod #name {
            /// How many bytes come before the rest of the frame.
            pub const HEADER_BYTES: usize = #length;

            /// What comes before the rest of the frame.
            ///
            #(#listed)*
            #[must_use]
            pub fn header(#(#idents: #types),*) -> [u8; HEADER_BYTES] {
                let mut header = [0; HEADER_BYTES];
                #(header[#ranges].copy_from_slice(&#idents.to_be_bytes());)*
                header
            }

            /// Takes a frame apart; `None`: it has no whole header.
            ///
            #(#listed)*
            #rest
            #[must_use]
            pub fn split(frame: &[u8]) -> Option<(#(#types,)* &[u8])> {
                let (header, rest) = frame.split_first_chunk::<HEADER_BYTES>()?;
                Some((#(#values,)* rest))
            }

            #(#setters)*
        }
    }
}
