//! Declarations as WIT text.

use std::collections::HashMap;

use wit_component::WitPrinter;
use wit_parser::{Function, FunctionKind, InterfaceId, Resolve, Type, TypeId, TypeOwner};

/// The type as it is written where it is used: `u32`, `list<line>`, `line`.
pub fn type_name(resolve: &Resolve, ty: &Type) -> String {
    let mut printer = WitPrinter::default();
    match printer.print_type_name(resolve, ty) {
        Ok(()) => printer.output.into(),
        // Only a resolve nobody decoded holds a record without a name.
        Err(_) => "_".to_owned(),
    }
}

/// The declaration of a function: `place: func(line: line) -> result<u32, string>`; a method is written
/// `basket.add: func(…)`.
pub fn function_text(resolve: &Resolve, function: &Function) -> String {
    let name = match function.name.split_once(']') {
        Some((_, name)) => name,
        None => function.name.as_str(),
    };
    let is_method = matches!(
        function.kind,
        FunctionKind::Method(_)
            | FunctionKind::AsyncMethod(_)
            | FunctionKind::MethodGetter(_)
            | FunctionKind::MethodSetter(_)
    );
    let word = match function.kind {
        FunctionKind::Constructor(_) => "constructor",
        FunctionKind::Static(_) => "static func",
        FunctionKind::AsyncStatic(_) => "static async func",
        FunctionKind::AsyncFreestanding | FunctionKind::AsyncMethod(_) => "async func",
        FunctionKind::Getter | FunctionKind::MethodGetter(_) => "get",
        FunctionKind::StaticGetter(_) => "static get",
        FunctionKind::Setter | FunctionKind::MethodSetter(_) => "set",
        FunctionKind::StaticSetter(_) => "static set",
        FunctionKind::Freestanding | FunctionKind::Method(_) => "func",
    };
    let parameters: Vec<_> = function
        .params
        .iter()
        .skip(usize::from(is_method))
        .map(|parameter| format!("{}: {}", parameter.name, type_name(resolve, &parameter.ty)))
        .collect();
    let result = match &function.result {
        Some(ty) => format!(" -> {}", type_name(resolve, ty)),
        None => String::new(),
    };
    format!("{name}: {word}({}){result}", parameters.join(", "))
}

/// The declaration of a named type: `record line { … }`.
pub fn type_text(resolve: &Resolve, id: TypeId) -> String {
    let definition = &resolve.types[id];
    let (Some(name), false) = (&definition.name, definition.owner == TypeOwner::None) else {
        return type_name(resolve, &Type::Id(id));
    };
    let mut printer = WitPrinter::default();
    match printer.print_types(
        resolve,
        definition.owner,
        std::iter::once((name.as_str(), id)),
        &HashMap::new(),
    ) {
        Ok(()) => String::from(printer.output).trim_end().to_owned(),
        Err(_) => name.clone(),
    }
}

/// The declarations of an interface, one after the other, without the line that names it and without blank
/// lines.
pub fn interface_text(resolve: &Resolve, id: InterfaceId) -> String {
    let mut printer = WitPrinter::default();
    match printer.print_interface(resolve, id) {
        Ok(()) => {
            let text = String::from(printer.output);
            text.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("\n")
        }
        Err(_) => String::new(),
    }
}
