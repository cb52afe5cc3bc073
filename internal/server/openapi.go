package server

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"muster/api"
)

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// humaConfig is huma's default configuration without its pages, its links in replies and its strictness: a field that
// this server does not know is ignored, so that newer clients work with it.
func humaConfig(version string) huma.Config {
	c := huma.DefaultConfig("Muster", version)
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.CreateHooks = nil
	c.AllowAdditionalPropertiesByDefault = true
	c.Formats = map[string]huma.Format{typeJSON: jsonFormat, "json": jsonFormat}
	c.Info.Description = "Sessions, workers and their consoles. Every request may carry " + api.HeaderVersion +
		"; every reply does. A field that is null counts as absent, one that is not known is ignored."
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", Description: "the owner's token, or a session's for that session"},
		"basic":  {Type: "http", Scheme: "basic", Description: "the token as the user's name"},
	}
	return c
}

func (s *Server) getVersion(context.Context, *struct{}) (*versionReply, error) {
	return &versionReply{Body: s.version}, nil
}

type versionReply struct{ Body api.VersionInfo }

// getOpenAPI serves the document, which huma made of the registered routes.
func (s *Server) getOpenAPI(context.Context, *struct{}) (*huma.StreamResponse, error) {
	return plain(func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, s.api.OpenAPI())
	}), nil
}
