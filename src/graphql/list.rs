//! Lists whose errors keep their whole path. async-graphql's own cut it at the index.

use std::borrow::Cow;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::{ContextSelectionSet, OutputType, Positioned, ServerResult, Value};

/// A list of output values.
pub struct List<T>(pub Vec<T>);

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

impl<T: OutputType> OutputType for List<T> {
    fn type_name() -> Cow<'static, str> {
        <Vec<T> as OutputType>::type_name()
    }

    fn qualified_type_name() -> String {
        <Vec<T> as OutputType>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <Vec<T> as OutputType>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        Self::resolve_all(&self.0, ctx, field).await
    }
}

impl<T: OutputType> List<T> {
    /// Resolves each of `items` by itself.
    pub async fn resolve_all(
        items: &[T],
        ctx: &ContextSelectionSet<'_>,
        field: &Positioned<Field>,
    ) -> ServerResult<Value> {
        let items = items.iter().enumerate().map(|(index, item)| async move {
            let ctx = ctx.with_index(index);
            let value = OutputType::resolve(item, &ctx, field).await;
            value.map_err(|error| if error.path.is_empty() { ctx.set_error_path(error) } else { error })
        });
        Ok(Value::List(futures_util::future::try_join_all(items).await?))
    }
}
